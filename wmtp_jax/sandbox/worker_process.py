"""The sandboxed processes, seen from outside: started (ahead of time), read from, and killed with all inside."""

import contextlib
import importlib.resources
import marshal
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque

from wmtp_jax.sandbox.isolation import ExecutionError, Sandbox

OUTPUT_BYTES, TAIL_BYTES = 64 << 20, 64 << 10
# How long a sandbox may take to start on a busy machine, and a killed process to vanish.
_START_SECONDS, _EXIT_SECONDS = 25.0, 5.0
_ATTEMPTS = 3


class WorkerProcess:
    """An interpreter in a sandbox of its own that waits for one step of a program (program_worker.py).

    Args:
        sandbox: starts it.
        code: descriptor of the compiled program_worker.
        stdin: what the program reads; None where it reads nothing.

    Attributes:
        control: socket on which it says how steps end.
        channel: the test worker's end of the socket to it.
        stream: its standard output, not yet read.
        open: whether more output may come.
        keep_tail: whether only the last TAIL_BYTES of the output are kept, instead of all up to OUTPUT_BYTES.
    """

    def __init__(self, sandbox: Sandbox, code: int, stdin: str | None = None):
        self.open, self.keep_tail = True, False
        self._parts, self._size, self._killed = deque(), 0, False
        with contextlib.ExitStack() as stack:
            self.control, remote_control = socket.socketpair()
            self.channel, remote_channel = socket.socketpair()
            for each in (self.control, remote_control, self.channel, remote_channel):
                stack.enter_context(each)
            scratch = tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True)
            cwd = None if sandbox.bwrap else stack.enter_context(scratch)
            with contextlib.ExitStack() as files:
                copies = [subprocess.DEVNULL, None]
                if stdin is not None:
                    # Files, as the writer of a pipe could block; two, as each has its own place to read on.
                    copies = [unlinked_file(stdin.encode(errors="replace")) for _ in range(2)]
                    for descriptor in copies:
                        files.callback(os.close, descriptor)
                self.process = sandbox.start(
                    code,
                    remote_control.fileno(),
                    remote_channel.fileno(),
                    die_with_parent=True,
                    cwd=cwd,
                    stdin_copy=copies[1],
                    stdin=copies[0],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            remote_control.close()
            remote_channel.close()
            self.stream = stack.enter_context(self.process.stdout)
            stack.callback(self.kill)
            self._stack = stack.pop_all()
        os.set_blocking(self.stream.fileno(), False)

    def is_ready(self) -> bool:
        """Waits until it can take a program; whether it has started."""
        return self.read_lines(1, time.monotonic() + _START_SECONDS) == ["ready"]

    def read_lines(self, count: int, deadline: float) -> list[str] | None:
        """So many lines of `control`, while output is read.

        Fewer where it ends or prints too much; None where time is out.
        """
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            if self.open:
                selector.register(self.stream, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.fileobj is self.stream:
                        self.read()
                        if not self.open:
                            selector.unregister(self.stream)
                        if self.full:
                            return []
                        continue
                    part = b""
                    with contextlib.suppress(OSError):
                        part = self.control.recv(4096)
                    received += part
                    if not part or received.count(b"\n") >= count:
                        return received.decode("ascii", "replace").split("\n")[:-1]
        return None

    def read(self) -> None:
        """Reads what has been printed."""
        part = self.stream.read(1 << 16)
        if part == b"":
            self.open = False
        elif part is not None:
            self._parts.append(part)
            self._size += len(part)
            while self.keep_tail and self._size - len(self._parts[0]) >= TAIL_BYTES:
                self._size -= len(self._parts.popleft())

    @property
    def full(self) -> bool:
        """Whether it printed more than it may."""
        return self._size > OUTPUT_BYTES

    def kill(self) -> None:
        """Ends it with everything inside. Thread-safe."""
        if not self._killed:
            self._killed = True
            kill_group(self.process)

    def read_stdout(self) -> str:
        """Everything that it printed, once it is dead."""
        until = time.monotonic() + _EXIT_SECONDS
        with selectors.DefaultSelector() as selector:
            if self.open:
                selector.register(self.stream, selectors.EVENT_READ)
            while self.open and not self.full and (left := until - time.monotonic()) > 0:
                selector.select(left)
                self.read()
        text = b"".join(self._parts)
        text = text[-TAIL_BYTES:] if self.keep_tail else text[:OUTPUT_BYTES]
        return text.decode(errors="replace")

    def close(self) -> None:
        """Kills it and frees what it holds."""
        self._stack.close()


class Workers:
    """The program workers of one job: running ones, and one per thread that starts up ahead of its next step.

    Args:
        sandbox: starts them.
        code: descriptor of the compiled program_worker.

    Attributes:
        closed: whether the job has ended; what its threads still find out does not count.
    """

    def __init__(self, sandbox: Sandbox, code: int):
        self.closed = False
        self._sandbox, self._code = sandbox, code
        self._lock = threading.Lock()
        # They die with the thread that starts them, so each thread has its own.
        self._waiting: dict[int, WorkerProcess] = {}
        self._running: set[WorkerProcess] = set()

    @contextlib.contextmanager
    def take(self, stdin: str | None = None):
        """A worker, closed at the end: the one that waits for this thread, or a new one."""
        waiting = self._waiting.pop(threading.get_ident(), None) if stdin is None else None
        worker = waiting or WorkerProcess(self._sandbox, self._code, stdin)
        with contextlib.closing(worker):
            with self._lock:
                self._running.add(worker)
                if self.closed:
                    worker.kill()
            try:
                yield worker
            finally:
                with self._lock:
                    self._running.discard(worker)

    def start_next(self) -> None:
        """Starts one for what this thread runs next."""
        if not self.closed:
            self._waiting[threading.get_ident()] = WorkerProcess(self._sandbox, self._code)

    def stop(self) -> None:
        """Ends running programs, so that their threads end too."""
        with self._lock:
            self.closed = True
            for worker in self._running:
                worker.kill()

    def close(self) -> None:
        """Ends those that were not taken."""
        for worker in self._waiting.values():
            worker.close()


class TestWorkerProcess:
    """The process that runs the tests (test_worker.py): one for all programs, started when it is first needed.

    Args:
        sandbox: starts it.

    Attributes:
        process: the running process, None where there is none.
    """

    def __init__(self, sandbox: Sandbox):
        self.process: subprocess.Popen | None = None
        self._sandbox, self._code = sandbox, compiled_modules("test_worker", sandbox)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def send_sockets(self, channel: socket.socket, result_socket: socket.socket) -> None:
        """Hands over a program's two sockets; starts the process first, or again when it is gone. Thread-safe."""
        with self._lock:
            for attempt in range(_ATTEMPTS):
                if self._control is None:
                    self._start()
                try:
                    socket.send_fds(self._control, [b"."], [channel.fileno(), result_socket.fileno()])
                    return
                except OSError as error:
                    self._stop()
                    if attempt == _ATTEMPTS - 1:
                        raise ExecutionError(f"the process that runs the tests does not start: {error}.") from error

    def stop(self) -> None:
        """Ends the process."""
        with self._lock:
            if self.process is not None:
                self._stop()

    def _start(self) -> None:
        control, remote = socket.socketpair()
        with remote, open(os.devnull, "rb") as no_channel:
            # It must outlive this thread, so it does not die with its parent: it leaves when its socket closes.
            self.process = self._sandbox.start(
                self._code,
                remote.fileno(),
                no_channel.fileno(),
                die_with_parent=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control = control

    def _stop(self) -> None:
        self._control.close()
        kill_group(self.process)
        self.process = self._control = None


def compiled_modules(worker: str, sandbox: Sandbox) -> int:
    """A read-only descriptor of an unlinked file with a worker's modules, compiled, and the sandbox's setup."""
    package = __name__.rpartition(".")[0]
    modules = [(package.partition(".")[0], compile("", "", "exec")), (package, compile("", "", "exec"))]
    for name in ("confine", "values", worker):
        text = importlib.resources.files(package).joinpath(f"{name}.py").read_text("utf-8")
        modules.append((f"{package}.{name}", compile(text, f"{name}.py", "exec", optimize=2)))
    return unlinked_file(marshal.dumps((modules, sandbox.setup)))


def kill_group(process: subprocess.Popen) -> None:
    """Kills a process with its whole group; under bubblewrap everything inside goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unlinked_file(content: bytes) -> int:
    """A read-only descriptor of a temporary file that is already unlinked."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.open(file.name, os.O_RDONLY)
