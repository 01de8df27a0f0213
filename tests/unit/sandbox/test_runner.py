"""Verdicts on honest and on failing programs, and what tests may do with a program's objects."""

import os
import resource
import signal
import socket
import threading
import time

import psutil
import pytest
from ways_to_use import HONEST

from wmtp_jax.sandbox import ExecutionError, Program, check_programs, run_program, test_worker
from wmtp_jax.sandbox.isolation import Sandbox, bwrap_command, find_bwrap, probe
from wmtp_jax.sandbox.runner import shared_runner
from wmtp_jax.sandbox.seccomp import no_fork_filter, seccomp_filter
from wmtp_jax.sandbox.test_worker import replace

LIMITS = {"timeout_s": 5.0, "memory_bytes": 256 << 20}
NO_SETUP = {"scratch": "", "paths": [], "packages": []}

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")


@pytest.mark.parametrize(
    ("source", "tests", "reason"),
    [
        ("def f(x):\n    return x + 1", "assert f(1) == 2", "passed"),
        ("def f(x):\n    return x + 1", "assert f(1) == 3", "wrong answer"),
        ("def f(x):\n    return x / 0", "assert f(1) == 3", "exception"),
        ("def f(x):\n    assert x == 2", "f(1)", "exception"),
        ("x = 1 / 0", "assert True", "exception"),
        ("def g(x):\n    return x", "assert f(1) == 1", "exception"),
        ("def f(x:", "assert f(1) == 1", "no code"),
        ("", "assert True", "no code"),
        ("  \n", "", "no code"),
        ("x\0 = 1", "assert True", "no code"),
        ("while True:\n    pass", "assert True", "timeout"),
        ("def f(x):\n    return [0] * 10**9", "assert f(1)", "memory"),
        ("import sys\nsys.exit(3)", "assert True", "exited"),
        ("for _ in range(70):\n    print('x' * 2**20)", "", "output"),
        ("for _ in range(70):\n    print('x' * 2**20)", "assert True", "passed"),
        ("def f(x):\n    return x", "assert f(1) ==", "broken tests"),
        ("print(1)", "", "passed"),
    ],
)
def test_reasons(source, tests, reason):
    timeout_s = 1.0 if reason == "timeout" else LIMITS["timeout_s"]
    verdict = run_program(source, tests=tests, timeout_s=timeout_s, memory_bytes=LIMITS["memory_bytes"])
    assert (verdict.reason, verdict.passed) == (reason, reason == "passed")


def test_exception_is_named():
    verdict = run_program("def f(x):\n    return {}[x]", tests="f('key')", **LIMITS)
    assert verdict.detail == "KeyError: 'key'"


def test_test_that_failed_is_named():
    tests = "assert f(1) == 1\nassert f(2) == 3, 'three'\nf(4)"
    verdict = run_program("def f(x):\n    return x", tests=tests, **LIMITS)
    assert verdict.detail == "assert f(2) == 3, 'three' three"


@pytest.fixture(scope="module")
def honest_verdicts():
    return check_programs([Program(*program.split("\n-----\n")) for program in HONEST], workers=4, **LIMITS)


@pytest.mark.parametrize("number", range(len(HONEST)))
def test_tests_may_use_the_program_as_if_it_were_theirs(number, honest_verdicts):
    assert honest_verdicts[number].passed, (HONEST[number], honest_verdicts[number])


@pytest.mark.parametrize(
    "tests",
    ["try:\n    f()\nexcept BaseException:\n    pass", "try:\n    f()\nexcept:\n    pass\nassert True"],
)
@pytest.mark.parametrize("leave", ["import os\n    os._exit(0)", "raise SystemExit", "while True:\n        pass"])
def test_no_except_in_the_tests_confirms_a_program_that_left(leave, tests):
    assert not run_program(
        f"def f():\n    {leave}", tests=tests, timeout_s=1.0, memory_bytes=LIMITS["memory_bytes"]
    ).confirmed


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("expected = 9\nassert f(3) == expected", "forged"),
        ("import math\nexpected = 9\nassert math.isclose(f(3), expected)", "forged"),
        ("expected = 9\ndef check(candidate):\n    assert candidate(3) == expected\ncheck(f)", "forged"),
        ("expected = [9]\nassert f(3) == expected.pop()", "passed"),
        ("expected = [0]\nexpected[0] = 9\nassert f(3) == expected[0]", "passed"),
        ("expected = 9\ntry:\n    assert f(3) == expected\nexcept ValueError:\n    pass", "passed"),
        ("expected = 9\nassert f(3) is expected", "passed"),
        ("from decimal import Decimal\nexpected = 9\nassert f(3) == Decimal(9)", "passed"),
    ],
)
def test_contradictions_without_an_honest_explanation_are_forged(tests, reason):
    program = "def f(x):\n    return x * x if 'expected' in globals() else 0"
    verdict = run_program(program, tests=tests, **LIMITS)
    assert verdict.reason == reason, verdict


@pytest.mark.parametrize(
    ("tests", "danger"),
    [
        ("assert eval(f()) == 9", "eval"),
        ("exec(f())", "exec"),
        ("exec('n = 1', {})\nexec(f(), {})", "exec"),
        ("import pickle\nassert pickle.loads(f()) == 9", "the module pickle"),
        ("from builtins import eval as run\nassert run(f()) == 9", "the module builtins"),
    ],
)
def test_tests_that_run_what_the_program_returns_confirm_nothing(tests, danger):
    program = f"import pickle\ndef f():\n    return {'pickle.dumps(9)' if 'pickle' in tests else repr('9')}"
    verdict = run_program(program, tests=tests, **LIMITS)
    assert (verdict.passed, verdict.confirmed) == (True, False)
    assert verdict.detail == f"the tests use {danger}, which can run what the program returns"


def test_standard_input_and_output():
    source = "import sys\nfor line in sys.stdin:\n    print(int(line) * 2)\nsys.exit(0)"
    verdict = run_program(source, stdin="1\n2\n", **LIMITS)
    assert (verdict.stdout, verdict.status, verdict.reason, verdict.passed) == ("2\n4\n", 0, "exited", False)
    late = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print(input()))).start()"
    verdict = run_program(late, stdin="late\n", **LIMITS)
    assert (verdict.stdout, verdict.passed) == ("late\n", True)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print(sum(map(int, input().split())))", "passed"),
        ("import sys\nprint(sum(map(int, input().split())))\nsys.exit()", "passed"),
        ("print(sum(map(int, input().split())))\nexit()\nprint(9)", "passed"),
        ("print(sum(map(int, input().split())))\nquit(0)", "passed"),
        ("def main():\n    print(sum(map(int, input().split())))\nmain()", "passed"),
        ("def test():\n    print(sum(map(int, input().split())))\n    assert 1\ntest()", "passed"),
        ("print(3)", "wrong answer"),
        ("print(sum(map(int, input().split())))\nimport sys\nsys.exit(1)", "exited"),
        ("a, b, c = input().split()", "exception"),
        ("import os\nprint(sum(map(int, input().split())), flush=True)\nos.abort()", "exited"),
    ],
)
def test_cases_of_input_and_output(source, reason):
    program = Program(source, cases=(("1 2\n", "3\n"), ("4 5\n", "9")))
    (verdict,) = check_programs([program], workers=1, **LIMITS)
    assert (verdict.reason, verdict.passed) == (reason, reason == "passed")


@pytest.mark.parametrize("act", ["os.write(0, b'x')", "os.ftruncate(0, 1)"])
def test_input_is_read_only(act):
    verdict = run_program(f"import os\n{act}\nprint('reached')", stdin="1\n", **LIMITS)
    assert (verdict.reason, verdict.stdout) == ("exception", "")


def test_pool_keeps_order_reports_each_and_survives_threads():
    sources = [f"def f():\n    return {i}\nassert f() == {i - i % 3}" for i in range(12)]
    seen = {}
    verdicts = check_programs(sources, workers=4, on_verdict=seen.__setitem__, **LIMITS)
    assert [verdict.passed for verdict in verdicts] == [i % 3 == 0 for i in range(12)]
    assert [seen[i] for i in range(12)] == verdicts
    # The test worker was started from a thread that is gone by now.
    thread = threading.Thread(target=lambda: seen.update(late=run_program("assert 1", **LIMITS)))
    thread.start()
    thread.join()
    assert seen["late"].passed
    assert run_program("assert 1", **LIMITS).passed


def test_a_killed_test_worker_is_replaced():
    assert run_program("x = 1", tests="assert x", **LIMITS).confirmed
    process = shared_runner("bwrap", ()).test_worker.process
    process.kill()
    process.wait()
    assert run_program("x = 1", tests="assert x", **LIMITS).confirmed


def test_a_test_worker_that_cannot_fork_sends_nothing_and_goes_on(monkeypatch):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    handler = signal.getsignal(signal.SIGCHLD)
    control, remote = socket.socketpair()
    result, remote_result = socket.socketpair()
    channel, remote_channel = socket.socketpair()
    monkeypatch.setattr(test_worker.os, "fork", refuse)
    with control, result, channel:
        socket.send_fds(control, [b"."], [remote_channel.fileno(), remote_result.fileno()])
        remote_channel.close()
        remote_result.close()
        control.shutdown(socket.SHUT_WR)
        try:
            test_worker.main(remote.detach(), os.open(os.devnull, os.O_RDONLY), NO_SETUP)
        finally:
            signal.signal(signal.SIGCHLD, handler)
        assert result.recv(1) == channel.recv(1) == b""


def test_where_no_process_starts_the_error_is_a_sentence(monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("wmtp_jax.sandbox.isolation.subprocess.run", refuse)
    with pytest.raises(ExecutionError, match=r"no process starts \(.*unavailable\); use fewer workers"):
        Sandbox("bwrap").raise_start_error()


def test_workers_are_as_many_as_open_files_allow():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    run_program("assert 1", **LIMITS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        threads = set()
        verdicts = check_programs(
            ["assert 1"] * 40, workers=40, on_verdict=lambda *_: threads.add(threading.get_ident()), **LIMITS
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(verdict.passed for verdict in verdicts)
    assert len(threads) <= 8


def test_error_in_the_callback_stops_the_pool():
    def refuse(index, verdict):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        check_programs(["assert 1"] * 50, workers=2, on_verdict=refuse, **LIMITS)
    assert run_program("assert 1", **LIMITS).passed


def test_without_sandbox_on_request():
    program = "import os\ndef f():\n    open('x', 'w').close()\n    return os.listdir()"
    assert run_program(program, tests="assert f() == ['x']", sandbox="none", **LIMITS).passed
    assert run_program("assert 0", sandbox="none", **LIMITS).reason == "wrong answer"
    assert run_program("while True:\n    pass", sandbox="none", timeout_s=0.5, memory_bytes=1 << 28).reason == "timeout"


@pytest.fixture
def not_probed():
    """The sandbox is probed again, and once more afterwards."""
    shared_runner.cache_clear()
    yield
    shared_runner.cache_clear()


def test_refuses_without_bubblewrap(not_probed, monkeypatch):
    monkeypatch.setattr("wmtp_jax.sandbox.isolation.find_bwrap", lambda: None)
    with pytest.raises(ExecutionError, match=r"no bubblewrap was found.*install bubblewrap.*sandbox 'none'"):
        run_program("assert 1", **LIMITS)


def test_refuses_a_sandbox_that_leaks(not_probed, monkeypatch, tmp_path):
    """Bubblewrap told to show the whole file system and to keep the network."""
    monkeypatch.chdir(tmp_path)
    leaky = (find_bwrap(), "--unshare-user", "--bind", "/", "/", "--bind", "/tmp", "/tmp", "--tmpfs", "/dev")
    monkeypatch.setattr("wmtp_jax.sandbox.isolation.bwrap_command", lambda bwrap: leaky)
    monkeypatch.setattr("wmtp_jax.sandbox.isolation.seccomp_filter", lambda: None)
    with pytest.raises(ExecutionError, match="read a file outside, wrote a file outside, connected to the network"):
        run_program("assert 1", **LIMITS)


def test_refuses_a_sandbox_that_does_not_start(not_probed, monkeypatch):
    broken = (*bwrap_command(find_bwrap()), "--ro-bind", "/does/not/exist", "/x")
    monkeypatch.setattr("wmtp_jax.sandbox.isolation.bwrap_command", lambda bwrap: broken)
    said = r"^the sandbox does not start \(bwrap: .*/does/not/exist.*\); install bubblewrap .*, or spell out"
    # On a busy machine the process may end only after the first program is handed to it.
    said += r"|^the process that runs the tests does not start: "
    with pytest.raises(ExecutionError, match=said):
        run_program("assert 1", **LIMITS)


def test_probe_accepts_only_the_expected_silence():
    probe(lambda source: "reached:\n")
    for said in ("", "reached: saw the environment\n", "reached:\nreached: all\n"):
        with pytest.raises(ExecutionError, match="does not hold"):
            probe(lambda source, said=said: said)


def test_unknown_sandbox():
    with pytest.raises(ExecutionError, match="unknown sandbox 'docker'; expected one of bwrap, none"):
        run_program("assert 1", sandbox="docker", **LIMITS)
    with pytest.raises(ExecutionError, match="at least one worker"):
        check_programs(["assert 1"], workers=0, **LIMITS)


def test_filters_are_whole_instructions():
    filters = (seccomp_filter(), no_fork_filter())
    if None in filters:
        pytest.skip("no system call numbers for this machine")
    assert all(len(each) % 8 == 0 and len(each) < 8 * 4096 for each in filters)


def test_replace_keeps_what_the_tests_hold():
    inner = [1, {2}]
    old = [inner, {"a": inner}, 3]
    replace(old, [[1, {2, 5}], {"a": [1, {2, 5}], "b": 0}, 4])
    assert old == [[1, {2, 5}], {"a": [1, {2, 5}], "b": 0}, 4]
    assert old[0] is inner
    assert old[1]["a"] is inner
    with pytest.raises(TypeError):
        replace(old, (1,))


def test_no_warm_worker_is_left():
    """Each thread starts a worker ahead; the last ones end with the pool."""
    run_program("assert 1", **LIMITS)
    children = lambda: {child.pid for child in psutil.Process().children(recursive=True)}
    before = children()
    check_programs(["assert 1"] * 4, workers=2, **LIMITS)
    until = time.monotonic() + 5
    while children() - before and time.monotonic() < until:
        time.sleep(0.02)
    assert children() <= before
