"""The directory of one run: one trainer at a time, one config, which never changes."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections

from wmtp_jax.errors import FileError
from wmtp_jax.files import FileLock, os_errors_named, write_atomically
from wmtp_jax.jsonl import fields_of, read_object
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.tracking import Tracker

# What a restart may change: how often something is written or shown and on which devices it is computed, never what.
FREE_FIELDS = (
    "run_name",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "evaluation.timeout_s",
    "evaluation.sandbox",
    "mlflow",
)

_PACKAGES = ("wmtp-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class Run(NamedTuple):
    """One run: its resolved config, its directory, and MLflow's mirror of it, if there is one."""

    config: ml_collections.ConfigDict
    directory: Path
    tracker: Tracker | None


@contextlib.contextmanager
def open_run_directory(root: Path, run_name: str, config: Mapping[str, Any]) -> Iterator[Path]:
    """Makes or reopens `root`/`run_name`, locks it for the block, and records config and environment in it.

    Raises:
        TrainingError: it belongs to another config, or is no run directory. A run that failed before it did anything (a
            mistyped path, say) may be started again with another config.
        FileError: another trainer is at work there, or it cannot be written.
    """
    path = Path(root).resolve() / run_name
    with os_errors_named(path):
        path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / "lock", f"run directory {path}", "wait for it, stop it, or give another --run_name"):
        _check_config(path, config)
        write_atomically(path / "config.json", json.dumps(config, indent=2) + "\n")
        _record_environment(path / "environment.json")
        yield path


def check_inputs(directory: Path, inputs: Mapping[str, Mapping[str, str]]) -> None:
    """Records what a run reads in inputs.json, and refuses to continue it with anything else.

    Args:
        directory: of the run.
        inputs: `path` and `sha256` (of the content) of each input, by its config field.

    Raises:
        TrainingError: names the input that is not what it was when the run began.
    """
    recorded = directory / "inputs.json"
    if recorded.exists() and _begun(directory):
        for field, was in read_object(recorded).items():
            if field in inputs and inputs[field]["sha256"] != was["sha256"]:
                raise TrainingError(
                    f"run directory {directory} began with another config.{field}: the content of "
                    f"{inputs[field]['path']} has changed since; restore it to continue that run, or give another "
                    "--run_name"
                )
    write_atomically(recorded, json.dumps(inputs, indent=2) + "\n")


def _begun(directory: Path) -> list[str]:
    """What a run has left of its work; what every start writes does not count."""
    names = {entry.name for entry in directory.iterdir() if not entry.name.startswith(".")}
    return sorted(names - {"lock", "config.json", "environment.json", "inputs.json"})


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Accepts an empty directory, or one of an earlier start of this very run."""
    recorded_path, begun = path / "config.json", _begun(path)
    if not recorded_path.exists():
        if begun:
            raise TrainingError(
                f"{path} holds {begun[0]} but no config.json, so it is no run directory; give another --run_name"
            )
        return
    try:
        recorded = dict(fields_of(read_object(recorded_path)))
    except FileError as error:
        raise TrainingError(f"{error}; or give another --run_name") from error
    given = dict(fields_of(json.loads(json.dumps(config))))
    for field in sorted(recorded.keys() | given.keys()):
        old, new = (json.dumps(fields[field]) if field in fields else "absent" for fields in (recorded, given))
        if old != new and field not in FREE_FIELDS and begun:
            raise TrainingError(
                f"run directory {path} belongs to another config: {field} is {old} there and {new} here; "
                "set it back to continue that run, or give another --run_name"
            )


def _record_environment(path: Path) -> None:
    """Adds this start to the list of starts: what ran where, so that a changed machine or version can be seen."""
    try:
        starts = list(read_object(path)["starts"])
    except (FileError, KeyError, TypeError):
        starts = []
    write_atomically(path, json.dumps({"starts": [*starts, environment()]}, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Versions, devices, command line and commit of this process; no environment variables, they may hold secrets."""
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
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
