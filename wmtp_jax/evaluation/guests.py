"""The processes that programs run in, seen from outside: started ahead of time, listened to, ended with all inside."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time

from wmtp_jax.evaluation.sandbox import Walls

OUTPUT_BYTES = 4 << 20
# How long a process may take to leave by itself, and a killed one to vanish.
_LEAVE_SECONDS = 5.0


class GuestProcess:
    """An interpreter in a sandbox of its own that waits for one program (guest.py).

    Args:
        walls: the sandbox.
        code: descriptor of the compiled guest.
        stdin: what the program reads.

    Attributes:
        channel: the judge's end of the socket to it.
        stream: what it prints, not yet read.
        open: whether more may come.
    """

    def __init__(self, walls: Walls, code: int, stdin: str = ""):
        self.open = True
        self._parts, self._size, self._killed = [], 0, False
        with contextlib.ExitStack() as stack:
            self.channel, theirs = socket.socketpair()
            stack.enter_context(self.channel)
            stack.enter_context(theirs)
            scratch = tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True)
            self.process = walls.start(
                code,
                theirs.fileno(),
                allow_fork=False,
                tied=True,
                cwd=None if walls.bwrap else stack.enter_context(scratch),
                stdin=stack.enter_context(_input(stdin)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            theirs.close()
            self.stream = stack.enter_context(self.process.stdout)
            stack.callback(self.kill)
            self._stack = stack.pop_all()
        os.set_blocking(self.stream.fileno(), False)

    def read(self) -> None:
        """Takes what has been printed."""
        part = self.stream.read(1 << 16)
        if part == b"":
            self.open = False
        elif part is not None:
            self._parts.append(part)
            self._size += len(part)

    @property
    def full(self) -> bool:
        """Whether it printed more than it may."""
        return self._size > OUTPUT_BYTES

    def leave(self) -> int | None:
        """Waits until it ends by itself; its exit status, or None where it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(_LEAVE_SECONDS)

    def kill(self) -> None:
        """Ends it with everything inside."""
        if not self._killed:
            self._killed = True
            kill_group(self.process)

    def last_words(self) -> str:
        """Everything that it printed, once it is dead."""
        until = time.monotonic() + _LEAVE_SECONDS
        with selectors.DefaultSelector() as selector:
            if self.open:
                selector.register(self.stream, selectors.EVENT_READ)
            while self.open and not self.full and (left := until - time.monotonic()) > 0:
                selector.select(left)
                self.read()
        return b"".join(self._parts)[:OUTPUT_BYTES].decode(errors="replace")

    def close(self) -> None:
        """Frees what it holds here; kills it where it lives."""
        self._stack.close()


class Spares:
    """Guests that start up while others run: one per thread, as they die with the thread that starts them.

    Args:
        walls: the sandbox.
        code: descriptor of the compiled guest.
    """

    def __init__(self, walls: Walls, code: int):
        self._walls, self._code = walls, code
        self._waiting: dict[int, GuestProcess] = {}

    def take(self) -> GuestProcess:
        """The one that waits for this thread, or a new one."""
        return self._waiting.pop(threading.get_ident(), None) or GuestProcess(self._walls, self._code)

    def prepare(self) -> None:
        """Starts one for the next program of this thread."""
        self._waiting[threading.get_ident()] = GuestProcess(self._walls, self._code)

    def close(self) -> None:
        """Ends those that still wait."""
        for guest in self._waiting.values():
            guest.close()


def kill_group(process: subprocess.Popen) -> None:
    """Ends a process with its whole group; under bubblewrap everything inside goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _input(text: str):
    """A read-only file with what the program reads: no writer that could block."""
    if not text:
        yield subprocess.DEVNULL
        return
    descriptor = nameless_file(text.encode(errors="replace"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def nameless_file(content: bytes) -> int:
    """A read-only descriptor of a file that has no name any more."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.open(file.name, os.O_RDONLY)
