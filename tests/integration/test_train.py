"""The trainer as a user meets it: the command line, a killed run, wrong input."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from wmtp_jax.train import main

CONFIG = """
from pathlib import Path
from ml_collections import ConfigDict
from configs import defaults

def get_config():
    config = defaults.get_config()
    config.model.path = ""
    config.model.tokenizer = "storage/models_v2/micro-mtp/tokenizer.model"
    config.model.architecture = ConfigDict(dict(
        dim=16, n_layers=4, n_heads=2, vocab_size=1024, n_future_tokens=2, ffn_dim=24, max_seq_len=128))
    config.data.train = str(Path(__file__).with_name("data.jsonl.gz"))
    config.data.buckets = (128,)
    config.train.batch_size = 8
    config.train.steps = 12
    config.train.log_every = 1
    config.train.checkpoint_every = 4
    config.evaluation.problems = 0
    config.mlflow = False
    return config
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, root) -> Path:
    """The config, and beside it the data that it names."""
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    shutil.copyfile(root / "storage/datasets_v2/microcode/valid.jsonl.gz", path.with_name("data.jsonl.gz"))
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory) -> Path:
    """The directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs")
    assert main(["--config", str(config_file), "--workdir", str(workdir), "--run_name", "whole"]) == 0
    return workdir / "whole"


def weights_of(run: Path) -> dict[str, np.ndarray]:
    return load_file(next((run / "export").glob("*.safetensors")))


def test_a_run_leaves_everything_a_person_looks_for(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "export", "report.html"} <= names
    entries = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [0, *range(1, 13), 12]
    assert {"loss", "loss_head_1", "loss_head_2", "gradient_norm", "learning_rate"} <= entries[1].keys()
    before, after = (json.loads((finished / f"{name}.json").read_text()) for name in ("before", "after"))
    assert after["loss_head_1"] < before["loss_head_1"]


@pytest.fixture
def again(finished, config_file):
    """Exit code of the same command, with further arguments."""
    command = ["--config", str(config_file), "--workdir", str(finished.parent), "--run_name", "whole"]
    return lambda *arguments: main([*command, *arguments])


def test_a_finished_run_started_again_only_reports(finished, again, capsys):
    before, log = weights_of(finished), (finished / "metrics.jsonl").read_text()
    assert again() == 0
    assert "loss, head 1" in capsys.readouterr().out
    for name, tensor in weights_of(finished).items():
        np.testing.assert_array_equal(tensor, before[name])
    # What a kill beside the last evaluation leaves: no after.json, or no line of it. Each comes once.
    (finished / "after.json").unlink()
    assert again() == 0
    assert (finished / "metrics.jsonl").read_text() == log
    (finished / "metrics.jsonl").write_text("".join(log.splitlines(keepends=True)[:-1]))
    assert again() == 0
    assert (finished / "metrics.jsonl").read_text() == log


def test_a_run_continues_from_the_same_inputs_alone(finished, config_file, again, capsys):
    assert json.loads((finished / "inputs.json").read_text()).keys() == {"model.tokenizer", "data.train", "data.valid"}
    data = config_file.with_name("data.jsonl.gz")
    sound = data.read_bytes()
    data.write_bytes(sound + gzip.compress(gzip.decompress(sound).splitlines(keepends=True)[0]))
    assert again() == 2
    assert f"another config.data.train: the content of {data} has changed since" in capsys.readouterr().err
    data.write_bytes(sound)
    assert again() == 0


@pytest.mark.slow
def test_a_run_that_is_stopped_and_started_again_ends_with_the_same_bits(finished, config_file, tmp_path, root, capsys):
    arguments = ["--config", str(config_file), "--workdir", str(tmp_path), "--run_name", "cut"]
    command = [sys.executable, "-m", "wmtp_jax.train", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, deadline = tmp_path / "cut" / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and '"step": 6' in metrics.read_text()):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert not (tmp_path / "cut" / "export").exists()
    assert main(arguments) == 0
    assert "continuing after step" in capsys.readouterr().out
    expected = weights_of(finished)
    for name, tensor in weights_of(tmp_path / "cut").items():
        np.testing.assert_array_equal(tensor, expected[name])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, *range(1, 13), 12]


def test_another_config_in_the_same_directory_is_refused(again, capsys):
    assert again("--config.seed=1") == 2
    assert "seed is 0 there and 1 here" in capsys.readouterr().err


def test_dry_run_prints_the_config_and_makes_nothing(config_file, tmp_path, capsys):
    assert main(["--config", str(config_file), "--workdir", str(tmp_path / "runs"), "--dry_run"]) == 0
    assert "learning_rate: 0.001" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.train=nowhere.jsonl"], "nowhere.jsonl"),
        (["--config.model.tokenizer=nowhere"], "nowhere"),
        (["--config.model.architecture.dim=15"], "dim 15 is not divisible"),
        (["--config.model.architecture.vocab_size=1000"], "1000"),
        (["--config.model.architecture.max_seq_len=100"], "the model's context is 100"),
        (["--config.loss.head_weights=0.5"], "has 1 entries, but the model has 2 heads"),
        (["--config.train.batch_size=100000"], "batch_size"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(config_file, tmp_path, capsys, arguments, message):
    code = main(["--config", str(config_file), "--workdir", str(tmp_path), "--run_name", "wrong", *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "wrong" / "checkpoints").exists()
    assert not (tmp_path / "wrong" / "export").exists()


def test_a_run_that_never_gets_a_finite_loss_stops_and_says_so(config_file, tmp_path, capsys):
    arguments = ["--config", str(config_file), "--workdir", str(tmp_path), "--config.train.steps=12"]
    extreme = [
        "--config.optimizer.learning_rate=1e30",
        "--config.train.max_skipped=3",
        "--config.optimizer.warmup_steps=0",
    ]
    assert main([*arguments, *extreme, "--run_name=blown"]) == 2
    assert "not finite for 3 steps in a row" in capsys.readouterr().err
