"""Checkpoints that prove themselves: orbax writes the arrays, a digest per leaf shows that they came back whole.

The only module that imports orbax. On its own orbax restores a flipped bit, casts to whatever dtype is asked for and
takes an empty directory named like a step for the newest one; none of these may reach a run.
"""

import concurrent.futures
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from wmtp_jax.files import json_digest
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.tree import flatten_tree

PyTree = Any


class _DamagedError(Exception):
    """Why a checkpoint cannot be trusted."""


class Checkpoints(contextlib.AbstractContextManager):
    """The newest `keep` checkpoints of one run, written in the background.

    Every checkpoint holds the state and a record of it: dtype, shape and SHA-256 of each leaf, the data iterator's
    state, and a digest of the record itself. The caller holds the lock of the run directory: two writers would
    destroy each other's checkpoints.
    """

    def __init__(self, directory: Path, keep: int = 3):
        self._directory = Path(directory).resolve()
        self._damaged = self._directory.with_name(self._directory.name + "_damaged")
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(keep), create=True, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._written: int | None = None
        self._started: int | None = None

    def __exit__(self, *_) -> None:
        """Waits for the checkpoint being written: it would be lost otherwise; raises as `save` does."""
        try:
            self._finish_writing()
        finally:
            self._manager.close()

    @property
    def last_step(self) -> int | None:
        """The newest step known to be whole, restored or written to its end; waits for one that is being written."""
        self._finish_writing()
        return self._written

    def save(self, step: int, state: PyTree, data_state: dict, wait: bool = False) -> None:
        """Starts writing a checkpoint; the arrays may be donated as soon as this returns.

        Args:
            step: number of updates that made `state`.
            state: tree of jax arrays (PRNG keys as their uint32 key data).
            data_state: of the data iterator, plain JSON values.
            wait: return only when everything is on disk.

        Raises:
            TrainingError: this checkpoint or the one before it could not be written.
        """
        self._finish_writing()
        record = {"leaves": _described(state), "data_state": data_state}
        record["sha256"] = json_digest(record)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(record))
        self._started = step
        with self._failures_named():
            if not self._manager.save(step, args=items, force=True):
                raise FileExistsError("there is one already")
        if wait:
            self._finish_writing()

    def restore_latest(self, abstract_state: PyTree) -> tuple[int, PyTree, dict] | None:
        """Restores the newest sound checkpoint, bit for bit, straight into the shardings asked for.

        Damaged checkpoints that are newer are moved to the directory beside (`..._damaged`), each with a warning, so
        that the run can write these steps again.

        Args:
            abstract_state: the tree wanted, of `jax.ShapeDtypeStruct`s with or without a sharding, or arrays.

        Returns:
            (step, state, data_state), or None when there is no sound checkpoint.

        Raises:
            TrainingError: a sound checkpoint holds another tree than `abstract_state`.
        """
        target = jax.tree.map(_target, abstract_state)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, data_state = self._restore(step, target)
            except _DamagedError as error:
                logging.warning(
                    "checkpoint %d is damaged and was set aside as %s: %s", step, self._set_aside(step), error
                )
                continue
            self._written = step
            return step, state, data_state
        return None

    def _restore(self, step: int, target: PyTree) -> tuple[PyTree, dict]:
        record = self._read(step, "its record", meta=ocp.args.JsonRestore())
        if not isinstance(record, dict) or record.pop("sha256", None) != json_digest(record):
            raise _DamagedError("its record is not what was saved")
        _check_same_tree(record["leaves"], target, self._directory / str(step))
        state = self._read(step, "the arrays", state=ocp.args.StandardRestore(target))
        for path, leaf in _described(state).items():
            if leaf != record["leaves"][path]:
                raise _DamagedError(f"the digest of {path} differs from the one recorded when it was saved")
        return state, record["data_state"]

    def _read(self, step: int, what: str, **item) -> Any:
        try:
            (read,) = self._manager.restore(step, args=ocp.args.Composite(**item)).values()
            return read
        except MemoryError:
            raise
        except Exception as error:  # orbax and tensorstore have no common error for files they cannot read
            raise _DamagedError(f"{what} cannot be read ({_first_line(error)})") from error

    def _set_aside(self, step: int) -> Path:
        self._damaged.mkdir(exist_ok=True)
        aside, n = self._damaged / str(step), 1
        while aside.exists():
            aside, n = self._damaged / f"{step}.{n}", n + 1
        (self._directory / str(step)).rename(aside)
        self._manager.reload()
        return aside

    def _finish_writing(self) -> None:
        with self._failures_named():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        if self._started is not None:
            self._written, self._started = self._started, None

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax lets through whatever the file system's driver raised
            step, self._started = self._started, None
            last = "none" if self._written is None else str(self._directory / str(self._written))
            raise TrainingError(
                f"checkpoint {self._directory / str(step)} could not be written ({_first_line(error)}); "
                f"make room or repair the disk and start the same command again; the last whole checkpoint is {last}"
            ) from error


def _target(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _described(tree: PyTree) -> dict[str, dict]:
    """Dtype, shape and SHA-256 of each leaf's bytes in row-major order, whatever its sharding."""
    leaves = flatten_tree(tree)
    digest = lambda leaf: hashlib.sha256(np.ascontiguousarray(leaf).view(np.uint8)).hexdigest()
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashlib frees the interpreter lock
        digests = pool.map(digest, leaves.values())
        return {
            path: {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "sha256": sha256}
            for (path, leaf), sha256 in zip(leaves.items(), digests, strict=True)
        }


def _check_same_tree(recorded: dict, target: PyTree, checkpoint: Path) -> None:
    saved = {path: (leaf["dtype"], tuple(leaf["shape"])) for path, leaf in recorded.items()}
    wanted = {path: (str(leaf.dtype), leaf.shape) for path, leaf in flatten_tree(target).items()}
    for path in sorted(saved.keys() | wanted.keys()):
        if saved.get(path) != wanted.get(path):
            describe = lambda leaf: "nothing" if leaf is None else f"{leaf[0]}{list(leaf[1])}"
            raise TrainingError(
                f"checkpoint {checkpoint} holds {describe(saved.get(path))} at {path}, this run needs "
                f"{describe(wanted.get(path))}; continue it with the config that wrote it, or give another --run_name"
            )


def _first_line(error: Exception) -> str:
    """What happened, then why: tensorstore puts the reason last, behind long paths."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return line if len(line) <= 200 else f"{line[:60]} … {line[-130:]}"
