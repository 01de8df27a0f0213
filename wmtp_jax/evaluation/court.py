"""Where one program is tried: a guest's process for it, the judge's for its tests, and what both say put together."""

import atexit
import contextlib
import importlib.resources
import marshal
import pickle
import secrets
import selectors
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, replace

from wmtp_jax.evaluation.errors import ExecutionError
from wmtp_jax.evaluation.guests import OUTPUT_BYTES, GuestProcess, Spares, kill_group, nameless_file
from wmtp_jax.evaluation.outputs import outputs_match
from wmtp_jax.evaluation.sandbox import Walls

# How long a sandbox may take to start on a busy machine.
_START_SECONDS = 25.0
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

    def try_program(
        self, program: Program, timeout_s: float, memory_bytes: int, spares: Spares | None = None
    ) -> Verdict:
        """The verdict on one program; safe to call from several threads. With `spares` it prepares for the next."""
        if not program.source.strip():
            return Verdict(False, "no code", "", "empty program")
        if not program.cases:
            return self._run(program, timeout_s, memory_bytes, spares)
        for number, (given, expected) in enumerate(program.cases, start=1):
            verdict = self._run(Program(program.source, stdin=given or "\n"), timeout_s, memory_bytes)
            # Such programs may leave by exit(0).
            if verdict.status != 0 or verdict.reason not in ("passed", "exited"):
                return replace(verdict, detail=f"case {number}: {verdict.detail}")
            if not outputs_match(expected, verdict.stdout):
                return Verdict(False, "wrong answer", verdict.stdout, f"case {number}", verdict.status)
        return replace(verdict, passed=True, reason="passed", detail="")

    def spares(self) -> Spares:
        """For programs that follow each other."""
        return Spares(self.walls, self.guest_code)

    def _run(self, program: Program, timeout_s: float, memory_bytes: int, spares: Spares | None = None) -> Verdict:
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt)
            with contextlib.suppress(BlockingIOError):
                verdict = self._attempt(program, timeout_s, memory_bytes, None if program.stdin else spares)
                if verdict.reason != "not started":
                    return verdict
        self.walls.refuse()

    def _attempt(self, program: Program, timeout_s: float, memory_bytes: int, spares: Spares | None) -> Verdict:
        nonce = secrets.token_hex(16)
        job = {
            "source": program.source,
            "tests": program.tests,
            "whole": bool(program.stdin),
            "timeout_s": timeout_s,
            "memory_bytes": memory_bytes,
            "nonce": nonce,
        }
        guest = spares.take() if spares else GuestProcess(self.walls, self.guest_code, program.stdin)
        line, judge_line = socket.socketpair()
        with contextlib.closing(guest), line, judge_line:
            self._appoint(guest.channel, judge_line)
            guest.channel.close()
            judge_line.close()
            line.settimeout(_START_SECONDS)
            with contextlib.suppress(OSError):
                line.sendall(pickle.dumps(job))
            if spares:
                spares.prepare()
            return _conclude(_listen(line, guest, time.monotonic() + _START_SECONDS + timeout_s), nonce, guest)

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
        control, theirs = socket.socketpair()
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
        self.control = control

    def _stop_judge(self) -> None:
        self.control.close()
        kill_group(self.judge)
        self.judge = self.control = None

    def close(self) -> None:
        """Ends the judge."""
        with self.lock:
            if self.judge is not None:
                self._stop_judge()


def _listen(line: socket.socket, guest: GuestProcess, deadline: float) -> list[str]:
    """Reads output until the judge has spoken: [nonce, reason, detail]; fewer where it fell silent before."""
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        selector.register(guest.stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is line:
                    part = _received(line)
                    said += part
                    if not part or said.count(b"\n") == 3:
                        return said.decode("ascii").split("\n")[:-1]
                else:
                    guest.read()
                    if guest.full:
                        return ["", "output", f"more than {OUTPUT_BYTES} bytes"]
                    if not guest.open:
                        selector.unregister(guest.stream)
    return ["", "timeout", ""]


def _received(line: socket.socket) -> bytes:
    try:
        return line.recv(4096)
    except OSError:
        return b""


def _conclude(said: list[str], nonce: str, guest: GuestProcess) -> Verdict:
    """Waits for a guest that is leaving, kills it otherwise, and puts the verdict together."""
    # Tests can end the judge's process too, where a value of the program exhausts it.
    claimed, reason, detail = said if len(said) == 3 else ("", "exited" if said else "not started", "")
    status = guest.leave() if reason in ("finished", "exited") else None
    if reason == "finished":
        reason = "passed" if status == 0 else "exited"
    guest.kill()
    passed = reason == "passed" and secrets.compare_digest(claimed, nonce)
    return Verdict(passed, reason, guest.last_words(), detail, status)


def _compiled(*names: str) -> int:
    """A read-only descriptor of a nameless file with compiled modules of this package, and nothing else of it."""
    package = __name__.rpartition(".")[0]
    modules = [(package.partition(".")[0], compile("", "", "exec")), (package, compile("", "", "exec"))]
    for name in names:
        text = importlib.resources.files(package).joinpath(f"{name}.py").read_text("utf-8")
        modules.append((f"{package}.{name}", compile(text, f"{name}.py", "exec", optimize=2)))
    return nameless_file(marshal.dumps(modules))
