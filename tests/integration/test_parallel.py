"""Several devices compute what one computes; simulated, because they share the machine's cores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import arguments, cut_data

from wmtp_jax.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]


def run(n_devices: int, module: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(n_devices), "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def in_a_process_with_8_devices(*arguments: str) -> dict:
    finished = run(8, "tests.integration.parallel_steps", *arguments)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "meshes"),
    [
        ("baseline", ["fsdp 8"]),
        ("verifiable", ["data 8", "data 2, fsdp 2, tensor 2"]),
        ("rho1", ["data 2, fsdp 2, tensor 2"]),
    ],
)
def test_twenty_steps_on_a_mesh_are_those_of_one_device(objective, meshes):
    found = in_a_process_with_8_devices(objective, *meshes)
    for mesh, measured in found.items():
        assert measured["metrics"] <= 1e-5, (mesh, measured)
        assert measured["params"] <= 1e-5, (mesh, measured)
        assert measured["compilations"] == 1, (mesh, measured)
        assert measured["held"] <= {"data 8": 1, "fsdp 8": 0.14, "data 2, fsdp 2, tensor 2": 0.28}[mesh]


@pytest.mark.slow
def test_collectives_do_not_grow_with_the_chunks_of_the_loss():
    found = in_a_process_with_8_devices("collectives")
    for whole, in_chunks in found.values():
        assert whole == in_chunks
    for mesh in ("data 8", "fsdp 8"):  # of a split vocabulary each chunk needs the maximum and the sum
        assert found[mesh][1]["in the loss's scan"] == 0
    assert set(found["data 8"][1]) == {"all-reduce", "in the loss's scan"}


@pytest.mark.slow
def test_a_run_of_one_device_continues_on_four(tmp_path):
    options = ["evaluation.problems=0", "mlflow=False"]
    command = arguments("baseline", tmp_path, cut_data(tmp_path), *options)
    assert run(1, "wmtp_jax.train", *command).returncode == 0
    directory = tmp_path / "baseline-micro"
    on_one_device = read_metrics(directory / "metrics.jsonl")
    for path in ("checkpoints/4", "export"):
        shutil.rmtree(directory / path)
    (directory / "after.json").unlink()

    finished = run(4, "wmtp_jax.train", *command, "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
    assert finished.returncode == 0, finished.stderr
    assert "continuing after step 2" in finished.stdout
    on_four = read_metrics(directory / "metrics.jsonl")
    assert [entry["step"] for entry in on_four] == [entry["step"] for entry in on_one_device]
    for one, four in zip(on_one_device, on_four, strict=True):
        for name in ("loss", "gradient_norm", "valid/loss"):
            if name in one:
                assert four[name] == pytest.approx(one[name], rel=1e-5)


@pytest.mark.parametrize(
    ("n_devices", "option", "message"),
    [
        (4, "mesh.fsdp=3", "config.mesh is data -1 x fsdp 3 x tensor 1, but there are 4 devices"),
        (4, "train.batch_size=6", "config.train.batch_size / config.train.accumulation is 6 rows"),
        (8, "mesh.tensor=8", "config.mesh.tensor is 8, which does not divide 4"),
    ],
)
def test_what_does_not_divide_is_one_sentence(tmp_path, n_devices, option, message):
    finished = run(n_devices, "wmtp_jax.train", *arguments("baseline", tmp_path, cut_data(tmp_path), option))
    assert finished.returncode == 2
    assert message in finished.stderr
