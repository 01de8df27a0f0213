"""A worker's part: the rows of a unit become lines, columns of their index, and counts."""

import collections
import hashlib
import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data import TEMPLATES, Record, render
from wmtp_jax.data.columns import write_columns
from wmtp_jax.data.index import RowColumns
from wmtp_jax.data.lengths import RESPONSE, prompt_column
from wmtp_jax.storage.datasets.contamination import Benchmark
from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.source import Unit, expected_form, read_unit
from wmtp_jax.storage.datasets.task import Solution, Task

CHARACTERS = "characters"
_ENCODED_AT_ONCE = 256
_MEMORY_BYTES = 1 << 30

_json = json.JSONEncoder(ensure_ascii=False).encode


def recipe_of(name: str):
    """The module of a data set."""
    return importlib.import_module(f"wmtp_jax.storage.datasets.{name}")


class Shard:
    """The records of one unit and split on their way to disk."""

    def __init__(self, stem: Path):
        """Opens STEM.jsonl; the columns follow at the end."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.labels: list[tuple[int, int]] = []
        self.difficulties: collections.Counter[str] = collections.Counter()
        self.tests = 0
        self._stem = stem
        self._lines = _HashedFile(stem.with_name(f"{stem.name}.jsonl"))
        self._tests = _HashedFile(stem.with_name(f"{stem.name}.tests.jsonl"))
        self._rows = RowColumns()
        self._numbers: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def add_tests(self, row: dict[str, Any]) -> None:
        """Writes a row for the evaluator."""
        self._tests.write([_json(row).encode()])
        self.tests += 1

    def add(self, task: Task, solutions: list[Solution], prompts: dict[str, int], responses: np.ndarray) -> None:
        """Writes records of one problem.

        Args:
            task: The problem.
            solutions: Its solutions.
            prompts: Tokens of its prompt in every template, BOS included.
            responses: [number of solutions], tokens of each, EOS included.
        """
        head = f'{{"instruction": {_json(task.instruction)}, "input": {_json(task.input)}, "output": '
        metadata = [{**task.metadata, **solution.metadata} for solution in solutions]
        lines = [
            (
                f'{head}{_json(solution.output)}, "task_id": {_json(solution.task_id)}, '
                f'"is_correct": {_json(solution.is_correct)}, "metadata": {_json(fields)}}}'
            ).encode()
            for solution, fields in zip(solutions, metadata, strict=True)
        ]
        self._lines.write(lines)
        labels = [solution.is_correct for solution in solutions]
        self._rows.add(lines, [solution.task_id for solution in solutions], labels, metadata)
        numbers = {prompt_column(name): np.full(len(lines), prompts[name], np.int32) for name in TEMPLATES}
        text = len(task.instruction) + len(task.input)
        characters = np.array([text + len(solution.output) for solution in solutions], np.int32)
        for name, column in (numbers | {RESPONSE: responses, CHARACTERS: characters}).items():
            self._numbers[name].append(column)
        self.counts.update(correct=sum(labels), incorrect=len(labels) - sum(labels))
        self.labels.append((sum(labels), len(labels) - sum(labels)))
        self.difficulties[str(task.metadata.get("difficulty") or "")] += 1

    def finish(self) -> dict[str, Any]:
        """Completes the files.

        Returns:
            For JSON: rows, bytes, digests, names and counts.
        """
        lines, tests = self._lines.close(), self._tests.close()
        if lines["rows"]:
            columns = self._rows.arrays() | {name: np.concatenate(parts) for name, parts in self._numbers.items()}
            write_columns(self._stem.with_name(f"{self._stem.name}.columns"), [columns], {})
        return {
            "records": lines,
            "tests": tests,
            "problems": list(self._rows.problems),
            "difficulty_names": list(self._rows.difficulties),
            "counts": dict(self.counts),
            "labels": self.labels,
            "difficulties": dict(self.difficulties),
        }


class _HashedFile:
    def __init__(self, path: Path):
        self._path, self._file, self._state = path, open(path, "wb"), hashlib.sha256()  # noqa: SIM115 (see close)
        self._rows = self._bytes = 0

    def write(self, lines: list[bytes]) -> None:
        block = b"".join(line + b"\n" for line in lines)
        self._file.write(block)
        self._state.update(block)
        self._rows += len(lines)
        self._bytes += len(block)

    def close(self) -> dict[str, Any]:
        # Not forced to disk: whoever uses a shard later compares its digest first.
        self._file.close()
        if not self._rows:
            self._path.unlink()
        return {"rows": self._rows, "bytes": self._bytes, "sha256": self._state.hexdigest()}


def process_unit(
    number: int,
    unit: Unit,
    name: str,
    settings: Settings,
    work: Path,
    benchmark: Benchmark | None,
    limits: dict[str, int] | None,
) -> dict[str, Any]:
    """Turns one unit into shards.

    Args:
        number: Of the unit, part of the shards' names.
        unit: Of the source.
        name: Of the data set.
        settings: Of the set-up.
        work: Directory of the shards.
        benchmark: Test problems that must not be among the training problems.
        limits: Records that are still wanted of each split; None takes all.

    Returns:
        Split -> what `Shard.finish` says.

    Raises:
        StorageError: The source is damaged or of another form.
    """
    recipe, shards, room = recipe_of(name), {}, dict(limits or {})
    for where, row in read_unit(unit, recipe, settings):
        with expected_form(where, recipe):
            task = recipe.task(row, unit.split, where, settings)
            if limits is not None and room[task.split] <= 0:
                if unit.split or not any(room.values()):
                    break
                continue
            if task.split not in shards:
                shards[task.split] = Shard(work / f"unit-{number:05}.{task.split}")
            shard = shards[task.split]
            shard.counts.update(task.left_out)
            solutions, prompts, responses = _chosen(task, settings, benchmark, shard.counts)
            if limits is not None:
                solutions = solutions[: room[task.split]]
                room[task.split] -= len(solutions)
            if solutions:
                shard.add(task, solutions, prompts, responses[: len(solutions)])
            if task.tests is not None and (solutions or not settings.small or not task.solutions):
                shard.add_tests(task.tests)
    return {split: shard.finish() for split, shard in shards.items()}


def _chosen(
    task: Task, settings: Settings, benchmark: Benchmark | None, counts: collections.Counter
) -> tuple[list[Solution], dict[str, int], np.ndarray]:
    """The solutions of a problem that are kept, tokens of its prompts and of the responses; counts the others."""
    solutions, nothing = task.solutions, ([], {}, np.zeros(0, np.int32))
    counts["solutions"] += len(solutions)
    if not (task.instruction or task.input):
        counts["no_description"] += len(solutions)
        return nothing
    if task.split == "train" and benchmark is not None and benchmark.contains(task.instruction):
        counts.update(contaminated=len(solutions), contaminated_problems=1)
        return nothing
    filled = [solution for solution in solutions if solution.output.strip()]
    counts["empty"] += len(solutions) - len(filled)
    solutions = _unique(filled, counts) if settings.deduplicate else filled
    record = Record(task.instruction, task.input, "", "", None, {})
    texts = {name: render(record, name) for name in TEMPLATES}
    texts["plain"] = task.instruction + task.input
    different = list(set(texts.values()))
    length_of = dict(zip(different, settings.tokenizer.lengths(different, threads=1), strict=True))
    plain = length_of[texts.pop("plain")]
    limit = settings.max_tokens or math.inf
    found: list[tuple[Solution, int]] = []
    for begin in range(0, len(solutions), _ENCODED_AT_ONCE):
        some = solutions[begin : begin + _ENCODED_AT_ONCE]
        lengths = settings.tokenizer.lengths([solution.output for solution in some], continuation=True, threads=1)
        found += [(s, n + 1) for s, n in zip(some, lengths, strict=True) if plain + n <= limit]
    counts["over_length"] += len(solutions) - len(found)
    if settings.small:
        first = {solution.is_correct: i for i, (solution, _) in reversed(list(enumerate(found)))}
        found = [found[i] for i in sorted(first.values())]
    if settings.reexecute and found:
        kept = _reproduced(task, [solution for solution, _ in found], settings)
        counts["not_reproduced"] += len(found) - len(kept)
        found = [found[i] for i in kept]
    responses = np.array([n for _, n in found], np.int32)
    prompt_tokens = {name: length_of[text] + 1 for name, text in texts.items()}
    return [solution for solution, _ in found], prompt_tokens, responses


def _unique(solutions: list[Solution], counts: collections.Counter) -> list[Solution]:
    """Each text once; texts that are labelled both ways not at all."""
    labels: dict[str, set[bool]] = collections.defaultdict(set)
    for solution in solutions:
        labels[solution.output].add(solution.is_correct)
    kept, seen = [], set()
    for solution in solutions:
        if len(labels[solution.output]) > 1:
            counts["contradictory"] += 1
        elif solution.output in seen:
            counts["duplicates"] += 1
        else:
            seen.add(solution.output)
            kept.append(solution)
    return kept


def _reproduced(task: Task, solutions: list[Solution], settings: Settings) -> list[int]:
    """Positions of the solutions whose label comes out when they are run; a problem without tests keeps none."""
    if not (task.cases or task.test_source):
        return []
    from wmtp_jax.sandbox import Program, check_programs

    programs = [Program(task.test_head + s.output, task.test_source, cases=task.cases) for s in solutions]
    verdicts = check_programs(programs, timeout_s=settings.timeout_s, memory_bytes=_MEMORY_BYTES, workers=1)
    return [i for i, (s, verdict) in enumerate(zip(solutions, verdicts, strict=True)) if verdict.passed == s.is_correct]
