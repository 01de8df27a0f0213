"""None of the programs that aim at the two steps is a confirmed pass, reaches anything or leaves anything."""

import fcntl
import os
import tempfile

import pytest
from hostile_programs_two_steps import HOSTILE_TWO_STEPS
from test_execution_hostile import DEVICES, HONEST, descendants, device_files, left_behind

from wmtp_jax.sandbox import Program, check_programs, run_program
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

LIMITS = {"timeout_s": 1.0, "memory_bytes": 256 << 20}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """All of them side by side, and what they must not have left."""
    assert run_program(HONEST.source, tests=HONEST.tests, **LIMITS).confirmed
    scratch = tmp_path_factory.mktemp("scratch")
    before, devices, shared = descendants(), device_files(), os.listdir("/dev/shm")
    programs = [Program(**fields) for fields in HOSTILE_TWO_STEPS.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        with open(os.__file__) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = check_programs(programs, workers=4, **LIMITS)
    after = device_files()
    for device, (mode, _, _, time_ns) in zip(DEVICES, devices, strict=True):
        # Put back: the whole machine uses them.
        os.chmod(device, mode & 0o7777)
        os.utime(device, ns=(time_ns, time_ns))
    assert after == devices
    assert not left_behind(before)
    assert os.listdir(scratch) == []
    assert os.listdir("/dev/shm") == shared
    return dict(zip(HOSTILE_TWO_STEPS, found, strict=True))


def test_none_is_confirmed(verdicts):
    assert [name for name, verdict in verdicts.items() if verdict.confirmed] == []


@pytest.mark.parametrize("name", HOSTILE_TWO_STEPS)
def test_hostile_program(name, verdicts):
    verdict = verdicts[name]
    assert verdict.passed == (verdict.reason == "passed")
    assert "reached" not in verdict.stdout
    assert verdict.detail.isascii()
    assert "\n" not in verdict.detail


def test_evaluator_goes_on_after_them(verdicts):
    found = check_programs([HONEST] * 4, workers=2, **LIMITS)
    assert [(verdict.passed, verdict.confirmed) for verdict in found] == [(True, True)] * 4


def test_helpers_of_the_prompt():
    """The tests use the benchmark's own helper, whatever the program makes of it."""
    fields = HOSTILE_TWO_STEPS["HumanEval/32, with its own poly"]
    helpers = "def poly(xs, x): return sum(c * x ** i for i, c in enumerate(xs))"
    (verdict,) = check_programs([Program(**fields, helpers=helpers)], workers=1, **LIMITS)
    assert (verdict.passed, verdict.reason) != (True, "passed") or not verdict.confirmed


def test_builtins_replaced_by_those_of_a_package():
    """The `all` of numpy is true for every generator."""
    program = Program(
        "from numpy import all\ndef solve(x): return 0",
        "assert all(solve(i) == i * i + 1 for i in range(5))",
        entry_points=("solve",),
    )
    (verdict,) = check_programs([program], packages=("numpy",), workers=1, timeout_s=5.0, memory_bytes=1 << 30)
    assert verdict.passed
    assert not verdict.confirmed
