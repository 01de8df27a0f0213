"""Where one program is tried: a guest's process for it, the judge's for its tests, and what both say put together."""

import atexit
import contextlib
import importlib.resources
import marshal
import os
import pickle
import secrets
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, replace

from wmtp_jax.evaluation.errors import ExecutionError
from wmtp_jax.evaluation.outputs import outputs_match
from wmtp_jax.evaluation.sandbox import Walls

OUTPUT_BYTES = 4 << 20
# How long a sandbox may take to start on a busy machine, and how long a killed one to vanish.
_START_SECONDS, _LEAVE_SECONDS = 25.0, 5.0
_ATTEMPTS = 3


@dataclass(frozen=True)
class Program:
    """A program and the tests that judge it.

    Attributes:
        source: the program.
        tests: Python source that raises where the program is wrong.
        stdin: what the program reads. With it the source is run whole: a last `check()` in it is no test.
        cases: pairs of standard input and expected standard output, one run each; instead of tests and stdin.
    """

    source: str
    tests: str = ""
    stdin: str = ""
    cases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Attributes:
        passed: the program ran to its end and its tests held.
        reason: "passed", or "wrong answer", "exception", "timeout", "memory", "no code" (not Python, or nothing),
            "output" (too much of it), "exited" (left, or was killed, before the end), "broken tests".
        stdout: what the program printed, at most OUTPUT_BYTES.
        detail: the exception, in one line of ASCII.
        status: the process's exit status where it ended by itself, else None.
    """

    passed: bool
    reason: str
    stdout: str
    detail: str = ""
    status: int | None = None


class Court:
    """Holds the judge's process and starts a guest for every program."""

    def __init__(self, sandbox: str):
        self.walls = Walls(sandbox)
        self.guest_code, self.judge_code = _compiled("guest"), _compiled("link", "judge")
        self.lock = threading.Lock()
        self.judge = self.control = None
        atexit.register(self.close)

    def try_program(self, program: Program, timeout_s: float, memory_bytes: int) -> Verdict:
        """The verdict on one program; safe to call from several threads."""
        if not program.source.strip():
            return Verdict(False, "no code", "", "empty program")
        if not program.cases:
            return self._run(program, timeout_s, memory_bytes)
        for number, (given, expected) in enumerate(program.cases, start=1):
            verdict = self._run(Program(program.source, stdin=given or "\n"), timeout_s, memory_bytes)
            # Such programs may leave by exit(0).
            if verdict.status != 0 or verdict.reason not in ("passed", "exited"):
                return replace(verdict, detail=f"case {number}: {verdict.detail}")
            if not outputs_match(expected, verdict.stdout):
                return Verdict(False, "wrong answer", verdict.stdout, f"case {number}", verdict.status)
        return replace(verdict, passed=True, reason="passed", detail="")

    def _run(self, program: Program, timeout_s: float, memory_bytes: int) -> Verdict:
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt)
            with contextlib.suppress(BlockingIOError):
                verdict = self._attempt(program, timeout_s, memory_bytes)
                if verdict.reason != "not started":
                    return verdict
        self.walls.refuse()

    def _attempt(self, program: Program, timeout_s: float, memory_bytes: int) -> Verdict:
        nonce = secrets.token_hex(16)
        job = {
            "source": program.source,
            "tests": program.tests,
            "whole": bool(program.stdin),
            "timeout_s": timeout_s,
            "memory_bytes": memory_bytes,
            "nonce": nonce,
        }
        with contextlib.ExitStack() as stack:
            line, judge_line = _socket_pair(stack)
            judge_end, guest_end = _socket_pair(stack)
            scratch = None if self.walls.bwrap else stack.enter_context(_scratch())
            stdin = stack.enter_context(_input(program.stdin))
            guest = self.walls.start(
                self.guest_code,
                guest_end.fileno(),
                allow_fork=False,
                tied=True,
                cwd=scratch,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                guest_end.close()
                self._appoint(judge_end, judge_line)
                judge_end.close()
                judge_line.close()
                line.settimeout(_START_SECONDS)
                with contextlib.suppress(OSError):
                    line.sendall(pickle.dumps(job))
                out = _Output(guest.stdout)
                said = _listen(line, out, time.monotonic() + _START_SECONDS + timeout_s)
            except BaseException:
                _kill(guest)
                guest.stdout.close()
                raise
            return _conclude(said, nonce, guest, out)

    def _appoint(self, channel: socket.socket, line: socket.socket) -> None:
        """Hands both descriptors to the judge; starts it first, or anew when it is gone."""
        with self.lock:
            for attempt in range(_ATTEMPTS):
                if self.control is None:
                    self._start_judge()
                try:
                    socket.send_fds(self.control, [b"."], [channel.fileno(), line.fileno()])
                    return
                except OSError as error:
                    self._stop_judge()
                    if attempt == _ATTEMPTS - 1:
                        raise ExecutionError(f"the process that runs the tests does not start: {error}.") from error

    def _start_judge(self) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            # Not tied to this thread, which may end before the process does: the judge leaves when its socket closes.
            self.judge = self.walls.start(
                self.judge_code,
                theirs.fileno(),
                allow_fork=True,
                tied=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def _stop_judge(self) -> None:
        self.control.close()
        _kill(self.judge)
        self.judge = self.control = None

    def close(self) -> None:
        """Ends the judge."""
        with self.lock:
            if self.judge is not None:
                self._stop_judge()


class _Output:
    """What a program prints, up to the cap."""

    def __init__(self, stream):
        self.stream = stream
        self.parts = []
        self.size = 0
        self.open = True
        os.set_blocking(stream.fileno(), False)

    def read(self) -> None:
        part = self.stream.read(1 << 16)
        if part == b"":
            self.open = False
        elif part is not None:
            self.parts.append(part)
            self.size += len(part)

    @property
    def full(self) -> bool:
        return self.size > OUTPUT_BYTES

    @property
    def text(self) -> str:
        return b"".join(self.parts)[:OUTPUT_BYTES].decode(errors="replace")


def _listen(line: socket.socket, out: _Output, deadline: float) -> list[str]:
    """Reads output until the judge has spoken: [nonce, reason, detail]; fewer where it fell silent before."""
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        selector.register(out.stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is line:
                    part = _received(line)
                    said += part
                    if not part or said.count(b"\n") == 3:
                        return said.decode("ascii").split("\n")[:-1]
                else:
                    out.read()
                    if out.full:
                        return ["", "output", f"more than {OUTPUT_BYTES} bytes"]
                    if not out.open:
                        selector.unregister(out.stream)
    return ["", "timeout", ""]


def _received(line: socket.socket) -> bytes:
    try:
        return line.recv(4096)
    except OSError:
        return b""


def _conclude(said: list[str], nonce: str, guest: subprocess.Popen, out: _Output) -> Verdict:
    """Waits for a guest that is leaving, kills it otherwise, and puts the verdict together."""
    # Tests can end the judge's process too, where a value of the program exhausts it.
    claimed, reason, detail = said if len(said) == 3 else ("", "exited" if said else "not started", "")
    status = None
    if reason in ("finished", "exited"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = guest.wait(_LEAVE_SECONDS)
    if reason == "finished":
        reason = "passed" if status == 0 else "exited"
    _kill(guest)
    until = time.monotonic() + _LEAVE_SECONDS
    with selectors.DefaultSelector() as selector:
        if out.open:
            selector.register(out.stream, selectors.EVENT_READ)
        while out.open and not out.full and (left := until - time.monotonic()) > 0:
            selector.select(left)
            out.read()
    guest.stdout.close()
    return Verdict(reason == "passed" and secrets.compare_digest(claimed, nonce), reason, out.text, detail, status)


def _kill(process: subprocess.Popen) -> None:
    """Ends a process with its whole group; under bubblewrap everything inside goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _socket_pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    first, second = socket.socketpair()
    return stack.enter_context(first), stack.enter_context(second)


def _scratch():
    return tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True)


@contextlib.contextmanager
def _input(text: str):
    """A read-only file with what the program reads: no writer that could block."""
    if not text:
        yield subprocess.DEVNULL
        return
    descriptor = _nameless(text.encode(errors="replace"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _nameless(content: bytes) -> int:
    """A read-only descriptor of a file that has no name any more."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.open(file.name, os.O_RDONLY)


def _compiled(*names: str) -> int:
    """A read-only descriptor of a nameless file with compiled modules of this package, and nothing else of it."""
    package = __name__.rpartition(".")[0]
    modules = [(package.partition(".")[0], compile("", "", "exec")), (package, compile("", "", "exec"))]
    for name in names:
        text = importlib.resources.files(package).joinpath(f"{name}.py").read_text("utf-8")
        modules.append((f"{package}.{name}", compile(text, f"{name}.py", "exec", optimize=2)))
    return _nameless(marshal.dumps(modules))
