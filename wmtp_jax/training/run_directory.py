"""The directory of one run: one trainer at a time, one config for good."""

import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from wmtp_jax.training.errors import TrainingError

# What a restart may change: how often something is written or shown, never what is computed.
FREE_FIELDS = (
    "run_name",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "evaluation.timeout_s",
    "evaluation.sandbox",
    "mlflow",
)

_PACKAGES = ("wmtp-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunDirectory:
    """A locked run directory. The lock lasts as long as this object or the process, so a killed trainer frees it.

    Attributes:
        path: the directory.
        resumed: whether the run had begun before: it left more there than its config.
    """

    def __init__(self, path: Path, lock, resumed: bool):
        self.path = path
        self.resumed = resumed
        self._lock = lock

    @classmethod
    def create(cls, root: Path | str, run_name: str, config: Mapping[str, Any]) -> "RunDirectory":
        """Makes or reopens `root`/`run_name`, locks it, and records config and environment in it.

        Args:
            root: directory of all runs.
            run_name: a plain directory name.
            config: the resolved config, JSON values in nested mappings.

        Raises:
            TrainingError: another trainer is at work there, it belongs to another config, or it is no run directory. A
                run that failed before it did anything (a mistyped path, say) may be started again with another config.
        """
        if run_name in ("", ".", "..") or Path(run_name).name != run_name:
            raise TrainingError(f"run_name is {run_name!r}; expected a plain directory name such as 'baseline-1'")
        path = Path(root).resolve() / run_name
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock(path / "lock")
        except OSError as error:
            raise TrainingError(
                f"run directory {path} cannot be used ({error.strerror}); give a --workdir that can be written"
            ) from error
        try:
            resumed = _check_config(path, config)
        except BaseException:
            lock.close()
            raise
        write_text_atomically(path / "config.json", json.dumps(config, indent=2) + "\n")
        _record_environment(path / "environment.json")
        return cls(path, lock, resumed)

    def release(self) -> None:
        """Gives the directory back to other trainers."""
        self._lock.close()

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_) -> None:
        self.release()


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file that appears complete or not at all, even when the machine stops."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Writes a file that appears complete or not at all, even when the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _lock(path: Path):
    """The open lock file; the kernel drops the lock with the process, whatever ended it."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open: closing it is what frees the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise TrainingError(
            f"run directory {path.parent} is in use by {holder}; wait for it, stop it, or give another --run_name"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n")
    file.flush()
    return file


def _check_config(path: Path, config: Mapping[str, Any]) -> bool:
    """Whether the directory holds an earlier start of this very run; an error when it holds anything else."""
    recorded_path = path / "config.json"
    contents = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    begun = sorted(contents - {"lock", "config.json", "environment.json"})
    if not recorded_path.exists():
        if begun:
            raise TrainingError(
                f"{path} holds {begun[0]} but no config.json, so it is no run directory; give another --run_name"
            )
        return False
    try:
        recorded = dict(_fields(json.loads(recorded_path.read_text(encoding="utf-8"))))
    except ValueError as error:
        raise TrainingError(f"{recorded_path} is not readable JSON ({error}); give another --run_name") from error
    given = dict(_fields(json.loads(json.dumps(config))))
    for field in sorted(recorded.keys() | given.keys()):
        old, new = (json.dumps(fields[field]) if field in fields else "absent" for fields in (recorded, given))
        if old != new and field not in FREE_FIELDS and begun:
            raise TrainingError(
                f"run directory {path} belongs to another config: {field} is {old} there and {new} here; "
                "set it back to continue that run, or give another --run_name"
            )
    return bool(begun)


def _fields(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _record_environment(path: Path) -> None:
    """Adds this start to the list of starts: what ran where, so that a changed machine or version can be seen."""
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        starts = []
    write_text_atomically(path, json.dumps({"starts": [*starts, environment()]}, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Versions, devices, command line and commit of this process; no environment variables, they may hold secrets."""
    return {
        "time": _now(),
        "command": sys.orig_argv,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The project's commit, with "+changes" when files differ from it; None for an installed package."""
    project = Path(__file__).parents[2]
    if not (project / ".git").exists():
        return None
    git = lambda *args: subprocess.run(
        ["git", "-C", str(project), *args], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
