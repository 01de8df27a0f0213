"""Several devices compute what one computes; simulated, because they share the machine's cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_a_process_with_8_devices(*arguments: str) -> dict:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.integration.parallel_steps", *arguments],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
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
