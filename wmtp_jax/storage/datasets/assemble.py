"""Joins the shards of all units, in their order, and writes what lies beside them: index, token counts, statistics."""

import collections
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wmtp_jax.data import TEMPLATES, Tokenizer
from wmtp_jax.data.columns import map_columns, write_columns
from wmtp_jax.data.index import index_metadata, index_path, open_index
from wmtp_jax.data.lengths import RESPONSE, lengths_metadata, lengths_path, prompt_column
from wmtp_jax.storage.datasets.picture import draw_statistics
from wmtp_jax.storage.datasets.records import CHARACTERS
from wmtp_jax.storage.datasets.statistics import split_statistics, write_statistics
from wmtp_jax.storage.errors import StorageError

_COPIED_BYTES = 1 << 22
_ENDINGS = {"records": "jsonl", "tests": "tests.jsonl"}
_FOLDERS = {"records": "processed", "tests": "tests"}
_COUNTS = ("problems", "programs", "correct", "incorrect", "source_solutions", "left_out")


def assemble(
    partial: Path, work: Path, units: Mapping[int, dict[str, Any]], splits: Sequence[str], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Writes processed/, tests/ and stats/; shards disappear as they are joined.

    Args:
        partial: Directory of the data set.
        work: Directory of the shards.
        units: What `process_unit` said of each, by number.
        splits: Of the data set.
        tokenizer: Whose tokens were counted.

    Returns:
        The part of the metadata that says what came out.

    Raises:
        StorageError: No record is left.
    """
    _check_any([part for unit in units.values() for part in unit.values()])
    parts = {
        split: [(number, unit[split]) for number, unit in sorted(units.items()) if split in unit] for split in splits
    }
    rows = {(split, kind): sum(part[kind]["rows"] for _, part in parts[split]) for split in splits for kind in _FOLDERS}
    path = {(split, kind): partial / folder / f"{split}.jsonl" for split in splits for kind, folder in _FOLDERS.items()}
    columns = {split: _columns(work, parts[split], split) for split in splits if rows[split, "records"]}
    statistics = {split: _statistics(parts[split], found) for split, found in columns.items()}
    (partial / "stats").mkdir(exist_ok=True)
    write_statistics(partial / "stats" / "statistics.json", statistics)
    with ThreadPoolExecutor(1) as pool:  # joining waits for the disk, drawing for the processor
        drawn = pool.submit(draw_statistics, partial / "stats" / "statistics.png", statistics)
        sums = {key: _join(path[key], work, parts[key[0]], *key) for key, count in rows.items() if count}
        drawn.result()
    described = {}
    for split, found in columns.items():
        _write_index(path[split, "records"], found, tokenizer)
        bytes_and_digest = {f"jsonl_{name}": value for name, value in sums[split, "records"].items()}
        described[split] = {name: statistics[split][name] for name in _COUNTS} | bytes_and_digest
    return {"records": {path[key].relative_to(partial).as_posix(): rows[key] for key in sums}, "splits": described}


def assembled_units(partial: Path, results: Mapping[int, dict[str, Any]]) -> set[tuple[str, int]]:
    """(SPLIT.KIND, unit) of the shards that a killed run had joined; a part that is not whole is cut off."""
    joined = set()
    for kind, folder in _FOLDERS.items():
        for path in (partial / folder).glob("*.jsonl"):
            split, end = path.name.removesuffix(".jsonl"), 0
            with open(path, "r+b") as file:
                for number, result in sorted(results.items()):
                    part = result.get(split, {}).get(kind)
                    if part is None or not part["rows"]:
                        continue
                    if _digest(file, part["bytes"]) != part["sha256"]:
                        break
                    end += part["bytes"]
                    joined.add((f"{split}.{kind}", number))
                file.truncate(end)
    return joined


def shard_is_whole(work: Path, number: int, split: str, kind: str, said: Mapping[str, Any]) -> bool:
    """Whether a shard has the bytes that were written."""
    path = _shard(work, number, split, kind)
    if not said["rows"]:
        return True
    if not path.exists() or path.stat().st_size != said["bytes"]:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == said["sha256"]


def _check_any(parts: Sequence[dict[str, Any]]) -> None:
    if any(part["records"]["rows"] for part in parts):
        return
    counts = collections.Counter()
    for part in parts:
        counts.update(part["counts"])
    taken = counts.pop("solutions", 0)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if count)
    raise StorageError(
        f"no record is left of {taken:,} solutions; left out were {reasons or 'none'}; give other sources or options"
    )


def _join(path: Path, work: Path, parts: Sequence[tuple[int, dict[str, Any]]], split: str, kind: str) -> dict[str, Any]:
    """Bytes and digest of the shards, one after the other."""
    path.parent.mkdir(exist_ok=True)
    state = hashlib.sha256()
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        while block := file.read(_COPIED_BYTES):
            state.update(block)
        position = 0
        for number, part in parts:
            position += part[kind]["bytes"]
            shard = _shard(work, number, split, kind)
            if position > end and part[kind]["rows"]:
                with open(shard, "rb") as source:
                    while block := source.read(_COPIED_BYTES):
                        file.write(block)
                        state.update(block)
                file.flush()
                os.fsync(file.fileno())
            shard.unlink(missing_ok=True)
    return {"bytes": position, "sha256": state.hexdigest()}


class _Columns(NamedTuple):
    """What the shards of a split say of each record, and what their numbers mean."""

    columns: list[dict[str, np.ndarray]]
    problems: dict[str, int]
    difficulties: dict[str, int]


def _columns(work: Path, parts: Sequence[tuple[int, dict[str, Any]]], split: str) -> _Columns:
    """The columns of every shard, problems and difficulties numbered across all of them."""
    problems: dict[str, int] = {}
    difficulties: dict[str, int] = {}
    found = []
    for number, part in parts:
        if not part["records"]["rows"]:
            continue
        columns = dict(map_columns(work / f"unit-{number:05}.{split}.columns"))
        for column, names, numbers in (
            ("problem", part["problems"], problems),
            ("difficulty", part["difficulty_names"], difficulties),
        ):
            number_of = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)
            columns[column] = number_of[columns[column]]
        found.append(columns)
    return _Columns(found, problems, difficulties)


def _statistics(parts: Sequence[tuple[int, dict[str, Any]]], found: _Columns) -> dict[str, Any]:
    """Counts and distributions of a split."""
    counts = collections.Counter()
    for _, part in parts:
        counts.update(part["counts"])
    written = {"problems": len(found.problems), "programs": sum(part["records"]["rows"] for _, part in parts)}
    written |= {label: counts.pop(label, 0) for label in ("correct", "incorrect")}
    written |= {"source_solutions": counts.pop("solutions", 0), "left_out": dict(sorted(counts.items()))}
    return written | split_statistics(
        tokens=np.concatenate([part[prompt_column("raw")] + part[RESPONSE] for part in found.columns]),
        characters=np.concatenate([part[CHARACTERS] for part in found.columns]),
        labels=np.array([pair for _, part in parts for pair in part["labels"]], np.int64).reshape(-1, 2),
        difficulties=sum((collections.Counter(part["difficulties"]) for _, part in parts), collections.Counter()),
    )


def _write_index(path: Path, found: _Columns, tokenizer: Tokenizer) -> None:
    """Writes the index and the token counts of a file of records."""
    index = ("length", "checksum", "problem", "difficulty", "is_correct", "clean")
    about = index_metadata(path, list(found.difficulties))
    write_columns(index_path(path), [_some(part, index) for part in found.columns], about)
    lengths = (RESPONSE, *map(prompt_column, TEMPLATES))
    about = lengths_metadata(tokenizer, TEMPLATES) | {"records": open_index(path).digest}
    write_columns(lengths_path(path), [_some(part, lengths) for part in found.columns], about)


def _some(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: columns[name] for name in names}


def _shard(work: Path, number: int, split: str, kind: str) -> Path:
    return work / f"unit-{number:05}.{split}.{_ENDINGS[kind]}"


def _digest(file, size: int) -> str:
    state = hashlib.sha256()
    while size and (block := file.read(min(size, _COPIED_BYTES))):
        state.update(block)
        size -= len(block)
    return state.hexdigest()
