"""Small runs of every objective and control through the command itself: what a run leaves, and that a kill in either
stage changes nothing.
"""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import MODELS, arguments, cut_data, run_train, why_programs_cannot_run

import converters
from converters.__main__ import main as convert

N_HEADS = 4
PLAIN = ["evaluation.problems=0", "mlflow=False"]  # neither programs nor MLflow: they do not depend on the objective
OF_WEIGHTS = {"weight_std", "weight_max", "weight_entropy", "effective_sample_share", "weight_position_correlation"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return cut_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(data, workdir):
    """Runs a config once; returns its directory and what it printed."""

    def run_once(name: str, config: str, *options: str) -> Path:
        assert run_train(config, workdir, data, f"run_name={name}", *options) == 0
        return workdir / name

    return run_once


@pytest.fixture(scope="module")
def verifiable(run) -> Path:
    """Both stages, uninterrupted."""
    return run("verifiable", "verifiable")


@pytest.fixture(scope="module")
def rho1(run) -> Path:
    return run("rho1", "rho1_weighted", *PLAIN)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def measures_of(directory: Path) -> tuple[dict, dict]:
    return tuple(json.loads((directory / f"{name}.json").read_text()) for name in ("before", "after"))


def digests_of(directory: Path) -> dict[str, str]:
    """SHA-256 of the weights that a run leaves."""
    files = sorted(directory.glob("*/*.safetensors"))
    assert files
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_whole(directory: Path, n_steps: int = 4) -> None:
    """What every finished run has."""
    names = {path.name for path in directory.iterdir()}
    assert {"config.json", "environment.json", "inputs.json", "checkpoints", "report.html", "loss.png"} <= names
    entries = lines_of(directory / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [0, *range(1, n_steps + 1), n_steps]
    losses = {f"loss_head_{k + 1}" for k in range(N_HEADS)}
    for entry in entries[1:-1]:
        assert {"loss", "gradient_norm", "learning_rate", *losses, *OF_WEIGHTS} <= entry.keys()
        assert all(math.isfinite(number) for number in entry.values())
    before, after = measures_of(directory)
    for measures, entry in ((before, entries[0]), (after, entries[-1])):
        assert entry == {"step": entry["step"]} | {f"valid/{name}": value for name, value in measures.items()}
        assert {*losses, "perplexity_head_1", "top1_head_1"} <= measures.keys()
    assert before != after
    export = directory / "export"
    config, params = converters.load(export)
    assert config.n_future_tokens == N_HEADS
    assert params["heads"]["attention"]["wq"].shape[0] == N_HEADS
    assert convert(["verify", str(export)]) == 0
    assert (export / "tokenizer.model").exists()
    page = (directory / "report.html").read_text()
    assert "loss, head 4" in page
    assert "weight std" in page


def test_verifiable_leaves_a_critic_a_model_and_a_report(verifiable):
    assert_whole(verifiable)
    stage1 = lines_of(verifiable / "critic_metrics.jsonl")
    assert [entry["step"] for entry in stage1] == [1, 2, 2, 3, 4, 4]
    assert sum("valid/value_auc" in entry for entry in stage1) == 2
    assert all("value_loss" in entry for entry in stage1 if "valid/value_auc" not in entry)
    for entry in lines_of(verifiable / "metrics.jsonl")[1:-1]:
        assert {"value_loss", "value_gradient_norm", "value_explained_variance", "td_error_std"} <= entry.keys()
        assert entry["weight_mean"] == pytest.approx(1, abs=1e-4)
        assert entry["weight_std"] > 0.01
    before, after = measures_of(verifiable)
    assert {"value_auc", "value_auc_pairs", "untrained_auc", "value_explained_variance"} <= before.keys()
    assert before["value_auc"] == 0.5  # a fresh critic values everything alike
    assert after["value_auc"] > 0.5
    for name in ("critic", "critic_after"):
        assert json.loads((verifiable / name / "critic.json").read_text())["settings"]["gamma"] == 1.0
    assert "critic AUC" in (verifiable / "report.html").read_text()


def test_rho1_scores_the_reference_and_comes_nearer_to_it(rho1):
    assert_whole(rho1)
    for entry in lines_of(rho1 / "metrics.jsonl")[1:-1]:
        assert "reference_loss_diff" in entry
        assert entry["weight_mean"] == pytest.approx(1, abs=1e-4)
    before, _ = measures_of(rho1)
    assert {"kl_divergence", "reference_loss_diff"} <= before.keys()
    assert before["kl_divergence"] > 0
    assert not (rho1 / "critic").exists()
    assert list((rho1.parent / "reference_cache").iterdir())
    assert "loss above the reference" in (rho1 / "report.html").read_text()


def test_programs_are_run_in_the_sandbox(verifiable):
    """pass@1 of three problems; micro-mtp solves one of them before it is trained."""
    if reason := why_programs_cannot_run():
        pytest.skip(f"programs cannot run here: {reason}")
    for measures in measures_of(verifiable):
        assert measures["pass_at_1"] in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
        assert 1 < measures["tokens_per_forward"] <= N_HEADS
    assert measures_of(verifiable)[0]["pass_at_1"] == pytest.approx(1 / 3)
    assert "greedy pass@1" in (verifiable / "report.html").read_text()


def test_mlflow_has_the_same_metrics(verifiable):
    tracking = pytest.importorskip("mlflow.tracking")
    client = tracking.MlflowClient(f"sqlite:///{verifiable.parent / 'mlflow.db'}")
    mirrored = client.get_run((verifiable / "mlflow_run_id.txt").read_text().strip())
    assert (mirrored.info.status, mirrored.info.run_name) == ("FINISHED", "verifiable")
    assert mirrored.data.params["objective"] == "verifiable"
    last = {}
    for entry in lines_of(verifiable / "metrics.jsonl"):
        last |= entry
    del last["step"]
    assert {name: mirrored.data.metrics[name] for name in last} == pytest.approx(last)
    assert mirrored.data.metrics["critic/valid/value_auc"] > 0
    files = {path.path for path in client.list_artifacts(mirrored.info.run_id)}
    assert files == {"report.html", "loss.png", "config.json", "environment.json"}


CONTROLS = {
    "uniform_on_all_samples": ["weighting.control=uniform", "data.policy_samples=all"],
    "shuffled_on_the_next_token": ["weighting.control=shuffled", "loss.heads=next_token"],
    "random": ["weighting.control=random"],
    "solution_mean": ["weighting.control=solution_mean"],
}


@pytest.fixture(scope="module")
def controls(run, verifiable) -> dict[str, Path]:
    """Every control, from the critic that the verifiable run has trained."""
    options = [f"critic.path={verifiable / 'critic'}", "train.steps=2", *PLAIN]
    return {name: run(name, "verifiable", *options, *control) for name, control in CONTROLS.items()}


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_run_from_a_trained_critic(name, controls, verifiable):
    directory = controls[name]
    assert_whole(directory, n_steps=2)
    assert not (directory / "critic").exists()
    assert "pass_at_1" not in measures_of(directory)[0]
    first, first_of_critic = (lines_of(path / "metrics.jsonl")[1] for path in (directory, verifiable))
    on_all, on_next_token = "all_samples" in name, "next_token" in name
    assert (first["targets"] != first_of_critic["targets"]) == on_all
    if not on_all:
        assert first["loss_head_1"] == pytest.approx(first_of_critic["loss_head_1"], rel=1e-5)
    if "uniform" in name:
        assert first["weight_std"] == 0
    if "shuffled" in name:
        for measure in ("weight_std", "weight_min", "weight_max", "weight_entropy"):
            assert first[measure] == pytest.approx(first_of_critic[measure], rel=1e-4)
    if "solution_mean" in name:
        assert 0 < first["weight_std"] < first_of_critic["weight_std"]
    _, after = converters.load(directory / "export")
    _, before = converters.load(MODELS / "micro-mtp", dtype="float32")
    wq_before, wq_after = (params["heads"]["attention"]["wq"] for params in (before, after))
    moved = [bool((a != b).any()) for a, b in zip(wq_after, wq_before, strict=True)]
    assert moved == [True, *[not on_next_token] * (N_HEADS - 1)]


@pytest.mark.slow
def test_a_run_killed_in_both_stages_ends_with_the_same_bits(data, verifiable, tmp_path, root):
    command = ["verifiable", tmp_path, data, "run_name=killed", *PLAIN]
    process = [sys.executable, "-m", "wmtp_jax.train", *arguments(*command)]
    killed = tmp_path / "killed"
    kill_when(process, root, killed / "critic_metrics.jsonl", killed / "critic_checkpoints" / "2", step=3)
    assert not (killed / "critic").exists()
    kill_when(process, root, killed / "metrics.jsonl", killed / "checkpoints" / "2", step=3)
    assert (killed / "critic").exists()
    assert not (killed / "export").exists()
    assert run_train(*command) == 0
    assert digests_of(killed) == digests_of(verifiable)
    assert (killed / "critic_metrics.jsonl").read_text() == (verifiable / "critic_metrics.jsonl").read_text()
    of_programs = {"valid/pass_at_1", "valid/tokens_per_forward"}
    entries = [
        {name: value for name, value in entry.items() if name not in of_programs}
        for entry in lines_of(verifiable / "metrics.jsonl")
    ]
    assert lines_of(killed / "metrics.jsonl") == entries


def kill_when(command: list[str], root: Path, metrics: Path, checkpoint: Path, *, step: int) -> None:
    """Starts a run and kills it without warning as soon as a step has its line and a checkpoint has its name."""
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 240
        while not (checkpoint.exists() and metrics.exists() and f'"step": {step}' in metrics.read_text()):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "the run did not come as far as expected"
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
