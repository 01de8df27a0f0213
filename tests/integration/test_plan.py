"""What the plan says of devices that are not there; in processes of their own, which simulate the devices."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
N_PARAMETERS = 1_837_184  # of micro-mtp


def plan(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wmtp_jax.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_parts_of_a_step_on_four_devices():
    finished = plan("--config", "configs/verifiable.py", "--mesh", "fsdp=4", "--device_memory", "2GB")
    assert finished.returncode == 0, finished.stderr
    stage_1, step = finished.stdout.split("\n\n")[1:3]
    assert stage_1.startswith("stage 1, 32 rows of 128 tokens")
    assert step.startswith("training step, 32 rows of 128 tokens in 1 micro-batches")
    mib = {name.strip(): float(value) for name, value in re.findall(r"  (.*?) +([\d.]+) MiB", step)}
    # Norms are on every device, all else is split.
    assert mib["parameters"] == pytest.approx(4 * N_PARAMETERS / 4 / 2**20, rel=0.01)
    assert mib["optimiser state"] == pytest.approx(2 * mib["parameters"], abs=0.01)
    assert mib["a device holds"] == pytest.approx(sum(mib.values()) - mib["a device holds"], abs=0.05)
    assert "fits in 1.86 GiB a device" in finished.stdout


@pytest.mark.slow
def test_what_does_not_fit_is_tried_with_less():
    options = ["--config.model.attention=blocked", "--config.loss.chunk_length=64", "--config.train.batch_size=4"]
    finished = plan("--config", "configs/baseline.py", "--device_memory", "0.01GB", *options)
    assert finished.returncode == 2
    tried = re.findall(r"^--config\.(\S+)", finished.stdout, re.MULTILINE)
    assert tried == ["model.remat=full", *(f"train.accumulation={n}" for n in (2, 4))]
    holds = [float(value) for value in re.findall(r"a device holds +([\d.]+) MiB", finished.stdout)]
    assert holds[-1] < holds[0]
    assert "does not fit in 9.54 MiB a device on this mesh" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "fsdp=0"], "'fsdp=0' is not data=N, fsdp=N or tensor=N"),
        (["--mesh", "pipeline=2"], "'pipeline=2' is not data=N, fsdp=N or tensor=N"),
        (["--device_memory", "24"], "'24' is not a size; expected one such as 24GB or 80GiB"),
        (["--mesh", "tensor=3"], "config.mesh.tensor is 3, which does not divide 4"),
        (["--mesh", "data=3"], "config.train.batch_size / config.train.accumulation is 32 rows"),
        (["--config.model.path=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message):
    finished = plan("--config", "configs/baseline.py", *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
