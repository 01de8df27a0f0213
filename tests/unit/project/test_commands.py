"""What a person meets first: the list of commands, each command's help, and answers that do not wait for jax."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wmtp_jax.__main__ import COMMANDS

ROOT = Path(__file__).parents[3]


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_list_of_commands_takes_less_than_a_second():
    start = time.process_time()
    before = os.times()
    listed = python("-m", "wmtp_jax")
    after = os.times()
    assert listed.returncode == 0
    assert all(f"python -m {module} " in listed.stdout for module in COMMANDS)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 1
    assert time.process_time() - start < 1


def run_without(heavy: set[str], module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a command in a process that ends with its code, or with a sentence about what it should not import."""
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[module, *arguments]!r}\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        f"    assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)\n"
    )
    return python("-c", program)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_ends_with_two_examples_and_comes_without_jax(module):
    shown = run_without({"jax", "torch", "mlflow", "orbax", "grain", "matplotlib"}, module, "--help")
    assert shown.returncode == 0, shown.stderr
    _, found, examples = shown.stdout.partition("examples:\n")
    assert found
    assert examples.count("python -m ") >= 2
    assert f"python -m {module}" in examples


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("wmtp_jax.train", ["--config=configs/baseline.py", "--config.train.steps=0"]),
        ("wmtp_jax.evaluate", ["--benchmark=microcode", "--model=x", "--n_samples=0"]),
        ("wmtp_jax.generate", ["--model=x", "--prompt=y", "--temperature=nan"]),
        ("wmtp_jax.storage", ["models", "--nonsense"]),
        ("wmtp_jax.microcode", ["--nonsense"]),
        ("converters", ["convert", "x"]),
    ],
)
def test_wrong_arguments_are_answered_without_jax(module, arguments):
    answered = run_without({"jax"}, module, *arguments)
    assert answered.returncode == 2, answered.stderr
    assert answered.stderr.startswith("error: ")
    assert answered.stderr.count("\n") == 1


@pytest.mark.parametrize(("module", "heavy"), [("wmtp_jax.microcode", "jax"), ("wmtp_jax.report", "matplotlib")])
def test_packages_that_import_without(module, heavy):
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    assert python("-c", code).returncode == 0
