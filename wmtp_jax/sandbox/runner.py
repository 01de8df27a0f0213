"""Runs programs in sandboxes, each in a fresh interpreter, and says whether their tests passed.

A program with tests takes two steps. Plain: both in one process, as the benchmark's own judge runs them; a failure is
final, a pass a claim. Confirmed, for claims alone: the tests run again in a process that has nothing of the program but
the values that its functions return.
"""

import atexit
import contextlib
import functools
import marshal
import re
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from wmtp_jax.sandbox.confine import send_message
from wmtp_jax.sandbox.isolation import ExecutionError, Sandbox, probe
from wmtp_jax.sandbox.worker_process import (
    OUTPUT_BYTES,
    TestWorkerProcess,
    WorkerProcess,
    Workers,
    compiled_modules,
)

FLOAT_TOLERANCE = 1e-5
_ATTEMPTS = 3
# Open files of one thread, with its next worker, and those of the rest of this process.
_FILES_PER_THREAD, _OTHER_FILES = 16, 128
_INTEGER = re.compile(r"[+-]?\d+")
_PLAIN_REASONS = ("passed", "wrong answer", "exception", "memory", "no code", "exited", "broken tests")


@dataclass(frozen=True)
class Program:
    """A program and what judges it: tests, or pairs of input and output, or nothing but how it ends.

    Attributes:
        source: the program.
        tests: Python source that raises where the program is wrong.
        stdin: what a program without tests reads.
        cases: pairs of standard input and expected standard output, one run each; instead of tests and stdin.
        module_name: `__name__` in program and tests: "__main__", or "builtins" as after `exec(program, {})`.
        entry_points: the names that the tests are about. A pass in which the tests use another name of the program is
            not confirmed, as the program could define it to its liking; without them, the tests may use one name.
        helpers: source of the benchmark that defines further names for the tests; the program has them as well.
    """

    source: str
    tests: str = ""
    stdin: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    module_name: str = "__main__"
    entry_points: tuple[str, ...] = ()
    helpers: str = ""


@dataclass(frozen=True)
class Verdict:
    """How a program ended.

    Attributes:
        passed: the program ran to its end and its tests passed, as they do in plain execution.
        reason: "passed", or "wrong answer", "exception", "timeout", "memory", "no code" (not Python, or empty),
            "output" (too much of it), "exited" (left, or was killed, before the end), "broken tests" (they do not
            compile, or import what is not there), "forged" (passed together with its tests, failed apart from them).
        stdout: what the program printed; the last TAIL_BYTES of it where it has tests.
        detail: the exception, or why a pass is not confirmed, in one line of ASCII.
        status: the process's exit status where it ended by itself, else None.
        confirmed: it passed, and would not have with other values.
    """

    passed: bool
    reason: str
    stdout: str
    detail: str = ""
    status: int | None = None
    confirmed: bool = False


class SandboxRunner:
    """Runs programs in one kind of sandbox: one test worker for all, one program worker for each step of a program.

    Args:
        sandbox: "bwrap" or "none".
        packages: installed packages that programs and tests can import.
    """

    def __init__(self, sandbox: str, packages: tuple[str, ...] = ()):
        self.packages = packages
        self.sandbox = Sandbox(sandbox, packages)
        self.worker_code = compiled_modules("program_worker", self.sandbox)
        self.test_worker = TestWorkerProcess(self.sandbox)
        atexit.register(self.test_worker.stop)

    def workers(self) -> Workers:
        """For programs that follow each other."""
        return Workers(self.sandbox, self.worker_code)

    def run(
        self, program: Program, timeout_s: float, memory_bytes: int, workers: Workers, *, ahead: bool = False
    ) -> Verdict:
        """The verdict on one program. Thread-safe.

        Args:
            program: with its tests.
            timeout_s: wall-clock seconds.
            memory_bytes: address space.
            workers: where to take the process from.
            ahead: whether this thread's next worker is to start as well.
        """
        if not program.source.strip():
            return Verdict(False, "no code", "", "empty program")
        if not program.cases:
            stdin = program.stdin or None
            return self._run_with_retries(program, stdin, timeout_s, memory_bytes, workers, ahead)
        for number, (stdin, expected) in enumerate(program.cases, start=1):
            verdict = self._run_with_retries(Program(program.source), stdin, timeout_s, memory_bytes, workers)
            # Such programs may leave by exit(0).
            if verdict.status != 0 or verdict.reason not in ("passed", "exited"):
                return replace(verdict, detail=f"case {number}: {verdict.detail}")
            if not outputs_match(expected, verdict.stdout):
                return Verdict(False, "wrong answer", verdict.stdout, f"case {number}", verdict.status)
        return replace(verdict, passed=True, reason="passed", detail="", confirmed=True)

    def _run_with_retries(
        self,
        program: Program,
        stdin: str | None,
        timeout_s: float,
        memory_bytes: int,
        workers: Workers,
        ahead: bool = False,
    ) -> Verdict:
        job = {
            "source": program.source,
            "tests": program.tests if stdin is None else None,
            "module_name": program.module_name,
            "entry_points": list(program.entry_points),
            "helpers": program.helpers,
            "tests_apart": False,
            "packages": list(self.packages),
            "memory_bytes": memory_bytes,
            "cpu_seconds": int(timeout_s) + 2,
        }
        for attempt in range(_ATTEMPTS):
            if not workers.closed:
                time.sleep(attempt)
            with contextlib.suppress(BlockingIOError):
                verdict = self._run_steps(job, stdin, timeout_s, workers, ahead)
                if verdict or workers.closed:
                    return verdict or Verdict(False, "exited", "")
        self.sandbox.raise_start_error()

    def _run_steps(
        self, job: dict, stdin: str | None, timeout_s: float, workers: Workers, ahead: bool
    ) -> Verdict | None:
        """Each step in a sandbox of its own, so that nothing of the first is left for the second; None where a process
        did not start.
        """
        start_next = workers.start_next if ahead else lambda: None
        with workers.take(stdin) as worker:
            verdict = self._run_plain(worker, job, timeout_s, start_next)
        if verdict is None or not verdict.passed:
            return verdict
        if not job["tests"]:
            return replace(verdict, detail="no tests say what it should compute")
        with workers.take() as worker:
            outcome = self._confirm(worker, job, timeout_s, start_next)
        return outcome and replace(verdict, **outcome)

    def _run_plain(
        self, worker: WorkerProcess, job: dict, timeout_s: float, start_next: Callable[[], None]
    ) -> Verdict | None:
        """The first step; None where its process did not start."""
        worker.keep_tail = bool(job["tests"])
        if not worker.is_ready():
            return None
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            send_message(worker.control.fileno(), marshal.dumps(job))
        start_next()
        verdict = _plain_verdict(worker.read_lines(3, deadline), worker)
        worker.kill()
        return replace(verdict, stdout=worker.read_stdout())

    def _confirm(
        self, worker: WorkerProcess, job: dict, timeout_s: float, start_next: Callable[[], None]
    ) -> dict | None:
        """The second step: fields of the verdict; None where a process did not start."""
        if not worker.is_ready():
            return None
        result_socket, remote_socket = socket.socketpair()
        with result_socket, remote_socket:
            self.test_worker.send_sockets(worker.channel, remote_socket)
            worker.channel.close()
            remote_socket.close()
            deadline = time.monotonic() + timeout_s
            with contextlib.suppress(OSError):
                # Nothing of the tests comes near the program.
                alone = {name: job[name] for name in ("source", "module_name", "memory_bytes", "cpu_seconds")}
                send_message(worker.control.fileno(), marshal.dumps(alone | {"tests_apart": True}))
                send_message(result_socket.fileno(), marshal.dumps(job))
            start_next()
            result = _read_result(result_socket, deadline)
            if not result:
                return None if result is not None else {"detail": f"the tests take more than {timeout_s:g} s apart"}
            _, outcome, detail = (*result, "", "")[:3]
            if outcome == "exited":
                # By itself, or was it killed, for instance for its memory?
                status = (worker.read_lines(3, time.monotonic() + 1) or [""])[0]
                outcome, detail = "forged" if status.isdigit() else "unconfirmed", "the program left its tests"
        if outcome == "confirmed":
            return {"confirmed": True}
        if outcome == "forged":
            return {"passed": False, "reason": "forged", "detail": detail}
        return {"detail": detail or "the tests exhausted their own process"}


def run_program(
    source: str,
    *,
    timeout_s: float,
    memory_bytes: int,
    stdin: str = "",
    tests: str = "",
    packages: Sequence[str] = (),
    sandbox: str = "bwrap",
) -> Verdict:
    """Runs one program and its tests.

    Args:
        source: the program.
        timeout_s: wall-clock seconds for each of the two steps, counted from its first line.
        memory_bytes: address space, the interpreter's own (about 20 MB) included.
        stdin: what it reads, where it has no tests.
        tests: Python source that raises where the program is wrong; may use the program's names.
        packages: installed packages that program and tests can import.
        sandbox: "bwrap"; or "none": a process of its own with resource limits, no protection against malice.

    Returns:
        The verdict. Anything that the program does leads to one.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold, or a package is not installed.
    """
    runner = shared_runner(sandbox, tuple(packages))
    return runner.run(Program(source, tests, stdin), timeout_s, memory_bytes, runner.workers())


def check_programs(
    programs: Sequence[Program | str],
    *,
    timeout_s: float,
    memory_bytes: int,
    workers: int,
    packages: Sequence[str] = (),
    sandbox: str = "bwrap",
    on_verdict: Callable[[int, Verdict], None] | None = None,
) -> list[Verdict]:
    """Runs programs in parallel, each as `run_program` does.

    Args:
        programs: sources, or programs with tests.
        timeout_s: wall-clock seconds per program and step.
        memory_bytes: address space per program.
        workers: programs that run at the same time; fewer where this process may not open enough files for them.
        packages: installed packages that programs and tests can import.
        sandbox: "bwrap" or "none".
        on_verdict: called with (index, verdict) as each program ends, one call at a time, in the order of ending.

    Returns:
        The verdicts, in the order of the programs. Whatever interrupts the call ends all programs at once.

    Raises:
        ExecutionError: there is no sandbox on this machine, it does not hold, a package is not installed, or
            workers < 1.
    """
    if workers < 1:
        raise ExecutionError(f"programs need at least one worker, not {workers}.")
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES) // _FILES_PER_THREAD
    n_threads = min(workers, max(1, room))
    runner = shared_runner(sandbox, tuple(packages))
    lock, processes = threading.Lock(), runner.workers()

    def check(index: int) -> Verdict:
        program = programs[index]
        program = Program(program) if isinstance(program, str) else program
        verdict = runner.run(program, timeout_s, memory_bytes, processes, ahead=True)
        with lock:
            if on_verdict and not processes.closed:
                on_verdict(index, verdict)
        return verdict

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="program")
    try:
        return list(pool.map(check, range(len(programs))))
    except BaseException:
        processes.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        processes.close()


def require_sandbox(sandbox: str, packages: Sequence[str] = ()) -> None:
    """Probes the sandbox where that has not been done yet.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold, or a package is not installed.
    """
    shared_runner(sandbox, tuple(packages))


@functools.cache
def shared_runner(sandbox: str, packages: tuple[str, ...] = ()) -> SandboxRunner:
    """This process's one runner per kind of sandbox, which is probed before anything else runs in it."""
    runner = SandboxRunner(sandbox, packages)
    if sandbox != "none":
        try:
            probe(lambda source: runner.run(Program(source), 20.0, 1 << 30, runner.workers()).stdout)
        except ExecutionError:
            runner.test_worker.stop()
            raise
    return runner


def outputs_match(expected: str, actual: str) -> bool:
    """Compares standard output as CodeContests does: token by token, regardless of white space and case.

    Numbers may differ by FLOAT_TOLERANCE, unless both are written as integers (Li et al. 2022, AlphaCode,
    arXiv 2203.07814).
    """
    expected_tokens, actual_tokens = expected.lower().split(), actual.lower().split()
    return len(expected_tokens) == len(actual_tokens) and all(map(_tokens_match, expected_tokens, actual_tokens))


def _tokens_match(expected: str, actual: str) -> bool:
    if expected == actual:
        return True
    if _INTEGER.fullmatch(expected) and _INTEGER.fullmatch(actual):
        return False
    try:
        return abs(float(expected) - float(actual)) <= FLOAT_TOLERANCE
    except ValueError:
        return False


def _plain_verdict(lines: list[str] | None, worker: WorkerProcess) -> Verdict:
    """What the first step says: status, reason and detail; less where its process has gone."""
    if lines is None:
        return Verdict(False, "timeout", "")
    if worker.full:
        return Verdict(False, "output", "", f"more than {OUTPUT_BYTES} bytes")
    if len(lines) < 3:
        return Verdict(False, "exited", "")
    status, reason, detail = lines
    if not reason and not worker.keep_tail:
        reason = "passed" if status == "0" else "exited"
    if reason not in _PLAIN_REASONS or (reason == "passed" and status != "0"):
        reason, detail = "exited", ""
    return Verdict(reason == "passed", reason, "", "".join(c for c in detail if c.isprintable()), int(status))


def _read_result(result_socket: socket.socket, deadline: float) -> list[str] | None:
    """The test worker's lines: "started", outcome and detail; fewer where it ends before, None when time is out."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(result_socket, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                part = b""
                with contextlib.suppress(OSError):
                    part = result_socket.recv(4096)
                received += part
                if not part or received.count(b"\n") == 3:
                    return received.decode("ascii").split("\n")[:-1]
    return None
