"""None of the hostile programs passes, reaches anything or leaves anything, and the evaluator goes on."""

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from hostile_programs import AGAINST_WEAK_TESTS, HOGGING, HOSTILE, LEAVING, LYING, TESTS

from wmtp_jax.sandbox import Program, check_programs, run_program
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
LIMITS = {"timeout_s": 1.0, "memory_bytes": 256 << 20}
HONEST = Program("def solve(x):\n    return x * x", TESTS)
_SUBREAPER = 36


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """What a program may want to reach: a secret, a place to write, listening sockets, a bystander."""
    directory = tmp_path_factory.mktemp("outside")
    (directory / "secret").write_text("the secret")
    unix = str(directory / "socket")
    # Orphans become children of this process, so that none escapes the count.
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander,
    ):
        local.bind(unix)
        abstract.bind("\0" + unix[-40:])
        listening = (server, local, abstract)
        for each in listening:
            each.listen()
            each.setblocking(False)
        assert run_program("", **LIMITS).reason == "no code"
        assert run_program(HONEST.source, tests=TESTS, **LIMITS).passed
        yield {
            "directory": str(directory),
            "secret": str(directory / "secret"),
            "target": str(directory / "target"),
            "unix": unix,
            "port": server.getsockname()[1],
            "pid": bystander.pid,
            "listening": listening,
            "bystander": bystander,
        }
        bystander.kill()
    libc.prctl(_SUBREAPER, 0)


def descendants() -> set[int]:
    """Living ones: a dead orphan waits for its new parent, this process, which is none of its business."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE}


def device_files() -> list[tuple]:
    """Mode, owner and time of each device file that programs see."""
    found = [os.stat(device) for device in DEVICES]
    return [(each.st_mode, each.st_uid, each.st_gid, each.st_mtime_ns) for each in found]


def left_behind(before: set[int]) -> set[int]:
    """Processes that are still there when the kernel has had time to bury the killed ones."""
    for _ in range(100):
        try:
            extra = descendants() - before
        except psutil.NoSuchProcess:
            continue
        if not extra:
            break
        time.sleep(0.02)
    return extra


def cases():
    """(program, tests) pairs, by name."""
    yield from ((name, source, TESTS) for name, source in HOSTILE.items())
    yield from ((f"{name}, in one source", f"{HOSTILE[name]}\n{TESTS}", "") for name in LEAVING | LYING)
    yield from ((name, source, tests) for name, (source, tests) in AGAINST_WEAK_TESTS.items())


@pytest.fixture(scope="module")
def verdicts(outside, tmp_path_factory):
    """Runs all of them side by side; what they must not have reached or left is checked when the last one has ended."""
    scratch = tmp_path_factory.mktemp("scratch")
    before, devices = descendants(), device_files()
    programs = {}
    for name, source, tests in cases():
        for key, what in outside.items():
            source = source.replace("{" + key + "!r}", repr(what)).replace("{" + key + "}", str(what))
        programs[name] = Program(source, tests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        found = check_programs(list(programs.values()), workers=4, **LIMITS)
    yield dict(zip(programs, found, strict=True))
    after = device_files()
    for device, (mode, _, _, time_ns), now in zip(DEVICES, devices, after, strict=True):
        # Put back: the whole machine uses them.
        if now[0] != mode or now[3] != time_ns:
            os.chmod(device, mode & 0o7777)
            os.utime(device, ns=(time_ns, time_ns))
    assert after == devices
    assert not left_behind(before)
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("name", [name for name, *_ in cases()])
def test_hostile_program(name, verdicts):
    verdict = verdicts[name]
    assert not verdict.confirmed
    assert verdict.detail or not verdict.passed
    assert verdict.detail.isascii()
    assert "\n" not in verdict.detail
    for leak in ("the secret", "root:", "reached", os.environ["PATH"]):
        assert leak not in verdict.stdout


def test_nothing_was_reached(outside, verdicts):
    assert Path(outside["secret"]).read_text() == "the secret"
    assert sorted(os.listdir(outside["directory"])) == ["secret", "socket"]
    assert not os.path.exists("/x")
    assert not os.path.exists("/usr/x")
    for each in outside["listening"]:
        with pytest.raises(BlockingIOError):
            each.accept()
    assert outside["bystander"].poll() is None


def test_evaluator_goes_on_after_them():
    """Honest programs between hostile ones pass, in the right places."""
    hostile = list(LEAVING | HOGGING)[::5]
    programs = [program for name in hostile for program in (Program(HOSTILE[name], TESTS), HONEST)]
    seen = []
    verdicts = check_programs(programs, workers=2, on_verdict=lambda index, verdict: seen.append(index), **LIMITS)
    assert [verdict.passed for verdict in verdicts] == [False, True] * len(hostile)
    assert sorted(seen) == list(range(len(programs)))
