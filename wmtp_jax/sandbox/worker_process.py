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

from wmtp_jax.sandbox.isolation import ExecutionError, Sandbox

OUTPUT_BYTES = 4 << 20
# How long a process may take to leave by itself, and a killed one to vanish.
_EXIT_SECONDS = 5.0
_ATTEMPTS = 3


class WorkerProcess:
    """An interpreter in a sandbox of its own that waits for one program (program_worker.py).

    Args:
        sandbox: starts it.
        code: descriptor of the compiled program_worker.
        stdin: what the program reads.

    Attributes:
        channel: the test worker's end of the socket to it.
        stream: its standard output, not yet read.
        open: whether more output may come.
    """

    def __init__(self, sandbox: Sandbox, code: int, stdin: str = ""):
        self.open = True
        self._parts, self._size, self._killed = [], 0, False
        with contextlib.ExitStack() as stack:
            self.channel, remote = socket.socketpair()
            stack.enter_context(self.channel)
            stack.enter_context(remote)
            scratch = tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True)
            self.process = sandbox.start(
                code,
                remote.fileno(),
                allow_fork=False,
                die_with_parent=True,
                cwd=None if sandbox.bwrap else stack.enter_context(scratch),
                stdin=stack.enter_context(_stdin_file(stdin)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            remote.close()
            self.stream = stack.enter_context(self.process.stdout)
            stack.callback(self.kill)
            self._stack = stack.pop_all()
        os.set_blocking(self.stream.fileno(), False)

    def read(self) -> None:
        """Reads what has been printed."""
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

    def wait(self) -> int | None:
        """Waits until it ends by itself; its exit status, or None where it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(_EXIT_SECONDS)

    def kill(self) -> None:
        """Ends it with everything inside."""
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
        return b"".join(self._parts)[:OUTPUT_BYTES].decode(errors="replace")

    def close(self) -> None:
        """Kills it and frees what it holds."""
        self._stack.close()


class WarmWorkers:
    """Workers that start up while others run: one per thread, as they die with the thread that starts them.

    Args:
        sandbox: starts them.
        code: descriptor of the compiled program_worker.
    """

    def __init__(self, sandbox: Sandbox, code: int):
        self._sandbox, self._code = sandbox, code
        self._waiting: dict[int, WorkerProcess] = {}

    def take(self) -> WorkerProcess:
        """The one that was started for this thread, or a new one."""
        return self._waiting.pop(threading.get_ident(), None) or WorkerProcess(self._sandbox, self._code)

    def start_next(self) -> None:
        """Starts one for this thread's next program."""
        self._waiting[threading.get_ident()] = WorkerProcess(self._sandbox, self._code)

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
        self._sandbox, self._code = sandbox, compiled_modules("program_client", "test_worker")
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
        with remote:
            # It must outlive this thread, so it does not die with its parent: it leaves when its socket closes.
            self.process = self._sandbox.start(
                self._code,
                remote.fileno(),
                allow_fork=True,
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


def compiled_modules(*names: str) -> int:
    """A read-only descriptor of an unlinked file with modules of this package, compiled, and nothing else of it."""
    package = __name__.rpartition(".")[0]
    modules = [(package.partition(".")[0], compile("", "", "exec")), (package, compile("", "", "exec"))]
    for name in names:
        text = importlib.resources.files(package).joinpath(f"{name}.py").read_text("utf-8")
        modules.append((f"{package}.{name}", compile(text, f"{name}.py", "exec", optimize=2)))
    return unlinked_file(marshal.dumps(modules))


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


@contextlib.contextmanager
def _stdin_file(text: str):
    """A read-only file with what the program reads: a pipe's writer could block."""
    if not text:
        yield subprocess.DEVNULL
        return
    descriptor = unlinked_file(text.encode(errors="replace"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
