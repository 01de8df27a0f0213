"""Runs programs in sandboxes, each in a fresh interpreter, and says whether their tests passed."""

import atexit
import contextlib
import functools
import pickle
import re
import resource
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from wmtp_jax.sandbox.isolation import ExecutionError, Sandbox, probe
from wmtp_jax.sandbox.worker_process import (
    OUTPUT_BYTES,
    TestWorkerProcess,
    WarmWorkers,
    WorkerProcess,
    compiled_modules,
)

FLOAT_TOLERANCE = 1e-5
# How long a sandbox may take to start on a busy machine.
_START_SECONDS = 25.0
_ATTEMPTS = 3
# Open files of one thread, with its next worker, and those of the rest of this process.
_FILES_PER_THREAD, _OTHER_FILES = 16, 128
_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Program:
    """A program and the tests that judge it.

    Attributes:
        source: the program.
        tests: Python source that raises where the program is wrong.
        stdin: what the program reads. With it the source runs as a whole: a `check()` at its end is no test.
        cases: pairs of standard input and expected standard output, one run each; instead of tests and stdin.
    """

    source: str
    tests: str = ""
    stdin: str = ""
    cases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a program ended.

    Attributes:
        passed: the program ran to its end and its tests passed.
        reason: "passed", or "wrong answer", "exception", "timeout", "memory", "no code" (not Python, or empty),
            "output" (too much of it), "exited" (left, or was killed, before the end), "broken tests".
        stdout: what the program printed, at most OUTPUT_BYTES.
        detail: the exception, in one line of ASCII.
        status: the process's exit status where it ended by itself, else None.
        confirmed: it passed, and no program could have forged that.
    """

    passed: bool
    reason: str
    stdout: str
    detail: str = ""
    status: int | None = None
    confirmed: bool = False


class SandboxRunner:
    """Runs programs in one kind of sandbox: one test worker for all, one program worker for each program.

    Args:
        sandbox: "bwrap" or "none".
    """

    def __init__(self, sandbox: str):
        self.sandbox = Sandbox(sandbox)
        self.worker_code = compiled_modules("program_worker")
        self.test_worker = TestWorkerProcess(self.sandbox)
        atexit.register(self.test_worker.stop)

    def run(
        self, program: Program, timeout_s: float, memory_bytes: int, warm_workers: WarmWorkers | None = None
    ) -> Verdict:
        """The verdict on one program. Thread-safe.

        Args:
            program: with its tests.
            timeout_s: wall-clock seconds.
            memory_bytes: address space.
            warm_workers: where to take the process from; the thread's next one is started as well.
        """
        if not program.source.strip():
            return Verdict(False, "no code", "", "empty program")
        if not program.cases:
            return self._run_with_retries(program, timeout_s, memory_bytes, warm_workers)
        for number, (stdin, expected) in enumerate(program.cases, start=1):
            verdict = self._run_with_retries(Program(program.source, stdin=stdin or "\n"), timeout_s, memory_bytes)
            # Such programs may leave by exit(0).
            if verdict.status != 0 or verdict.reason not in ("passed", "exited"):
                return replace(verdict, detail=f"case {number}: {verdict.detail}")
            if not outputs_match(expected, verdict.stdout):
                return Verdict(False, "wrong answer", verdict.stdout, f"case {number}", verdict.status)
        return replace(verdict, passed=True, reason="passed", detail="")

    def warm_workers(self) -> WarmWorkers:
        """For programs that follow each other."""
        return WarmWorkers(self.sandbox, self.worker_code)

    def _run_with_retries(
        self, program: Program, timeout_s: float, memory_bytes: int, warm_workers: WarmWorkers | None = None
    ) -> Verdict:
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt)
            with contextlib.suppress(BlockingIOError):
                verdict = self._run_once(program, timeout_s, memory_bytes, None if program.stdin else warm_workers)
                if verdict.reason != "not started":
                    return verdict
        self.sandbox.raise_start_error()

    def _run_once(
        self, program: Program, timeout_s: float, memory_bytes: int, warm_workers: WarmWorkers | None
    ) -> Verdict:
        nonce = secrets.token_hex(16)
        job = {
            "source": program.source,
            "tests": program.tests,
            "whole": bool(program.stdin),
            "timeout_s": timeout_s,
            "memory_bytes": memory_bytes,
            "nonce": nonce,
        }
        worker = warm_workers.take() if warm_workers else WorkerProcess(self.sandbox, self.worker_code, program.stdin)
        result_socket, remote_socket = socket.socketpair()
        with contextlib.closing(worker), result_socket, remote_socket:
            self.test_worker.send_sockets(worker.channel, remote_socket)
            worker.channel.close()
            remote_socket.close()
            result_socket.settimeout(_START_SECONDS)
            with contextlib.suppress(OSError):
                result_socket.sendall(pickle.dumps(job))
            if warm_workers:
                warm_workers.start_next()
            result = _read_result(result_socket, worker, time.monotonic() + _START_SECONDS + timeout_s)
            return _make_verdict(result, nonce, worker)


def run_program(
    source: str,
    *,
    timeout_s: float,
    memory_bytes: int,
    stdin: str = "",
    tests: str = "",
    packages: tuple[str, ...] = (),
    sandbox: str = "bwrap",
) -> Verdict:
    """Runs one program and its tests.

    Args:
        source: the program; may end with its own tests.
        timeout_s: wall-clock seconds, counted from its first line.
        memory_bytes: address space, the interpreter's own (about 20 MB) included.
        stdin: what it reads.
        tests: Python source that raises where the program is wrong; may use the program's names.
        packages: installed packages that program and tests can import.
        sandbox: "bwrap"; or "none": a process of its own with resource limits, no protection against malice.

    Returns:
        The verdict. Anything that the program does leads to one.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    return shared_runner(sandbox).run(Program(source, tests, stdin), timeout_s, memory_bytes)


def check_programs(
    programs: Sequence[Program | str],
    *,
    timeout_s: float,
    memory_bytes: int,
    workers: int,
    sandbox: str = "bwrap",
    on_verdict: Callable[[int, Verdict], None] | None = None,
) -> list[Verdict]:
    """Runs programs in parallel, each as `run_program` does.

    Args:
        programs: sources, or programs with tests.
        timeout_s: wall-clock seconds per program.
        memory_bytes: address space per program.
        workers: programs that run at the same time; fewer where this process may not open enough files for them.
        sandbox: "bwrap" or "none".
        on_verdict: called with (index, verdict) as each program ends, one call at a time, in the order of ending.

    Returns:
        The verdicts, in the order of the programs.

    Raises:
        ExecutionError: there is no sandbox on this machine, it does not hold, or workers < 1.
    """
    if workers < 1:
        raise ExecutionError(f"programs need at least one worker, not {workers}.")
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES) // _FILES_PER_THREAD
    workers = min(workers, max(1, room))
    runner = shared_runner(sandbox)
    lock, warm_workers = threading.Lock(), runner.warm_workers()

    def check(index: int) -> Verdict:
        program = programs[index]
        program = Program(program) if isinstance(program, str) else program
        verdict = runner.run(program, timeout_s, memory_bytes, warm_workers)
        if on_verdict:
            with lock:
                on_verdict(index, verdict)
        return verdict

    pool = ThreadPoolExecutor(workers, thread_name_prefix="program")
    try:
        return list(pool.map(check, range(len(programs))))
    finally:
        pool.shutdown(cancel_futures=True)
        warm_workers.close()


def require_sandbox(sandbox: str) -> None:
    """Probes the sandbox where that has not been done yet.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    shared_runner(sandbox)


@functools.cache
def shared_runner(sandbox: str) -> SandboxRunner:
    """This process's one runner per kind of sandbox, which is probed before anything else runs in it."""
    runner = SandboxRunner(sandbox)
    if sandbox != "none":
        try:
            probe(lambda source: runner.run(Program(source), 20.0, 512 << 20).stdout)
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


def _read_result(result_socket: socket.socket, worker: WorkerProcess, deadline: float) -> list[str]:
    """Reads output until the test worker's result is there: [nonce, reason, detail]; fewer where it ended before."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(result_socket, selectors.EVENT_READ)
        selector.register(worker.stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is result_socket:
                    part = b""
                    with contextlib.suppress(OSError):
                        part = result_socket.recv(4096)
                    received += part
                    if not part or received.count(b"\n") == 3:
                        return received.decode("ascii").split("\n")[:-1]
                else:
                    worker.read()
                    if worker.full:
                        return ["", "output", f"more than {OUTPUT_BYTES} bytes"]
                    if not worker.open:
                        selector.unregister(worker.stream)
    return ["", "timeout", ""]


def _make_verdict(result: list[str], nonce: str, worker: WorkerProcess) -> Verdict:
    """Waits for a worker that is leaving, kills it otherwise, and makes the verdict."""
    # Tests can end the test worker too, where a value of the program exhausts it.
    claimed, reason, detail = result if len(result) == 3 else ("", "exited" if result else "not started", "")
    status = worker.wait() if reason in ("finished", "exited") else None
    if reason == "finished":
        reason = "passed" if status == 0 else "exited"
    worker.kill()
    passed = reason == "passed" and secrets.compare_digest(claimed, nonce)
    return Verdict(passed, reason, worker.read_stdout(), detail, status, confirmed=passed)
