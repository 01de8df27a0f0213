"""What a person meets first: the list of commands, each command's help, and answers that do not wait for jax."""

import os
import subprocess
import sys
import time

import pytest

from wmtp_jax.__main__ import COMMANDS


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


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


@pytest.mark.parametrize("module", COMMANDS)
def test_help_ends_with_two_examples_and_comes_without_jax(module):
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{module!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'jax', 'torch', 'mlflow', 'orbax', 'grain', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = python("-c", program)
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
def test_wrong_arguments_are_answered_without_jax(module, arguments, root):
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{module!r}, *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert end.code == 2, end.code\n"
        "assert 'jax' not in sys.modules\n"
    )
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert answered.returncode == 0, answered.stderr
    assert answered.stderr.startswith("error: ")
    assert answered.stderr.count("\n") == 1
