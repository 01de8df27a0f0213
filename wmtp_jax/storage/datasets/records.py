"""A worker's part: the rows of a chunk become lines of records, rows of tests, and counts."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wmtp_jax.files import write_atomically
from wmtp_jax.storage.datasets.contamination import BenchmarkTexts
from wmtp_jax.storage.datasets.recipes import RECIPES
from wmtp_jax.storage.datasets.sources import Chunk, expected_form, read_chunk
from wmtp_jax.storage.datasets.task import Settings, Solution, Task

KINDS = ("records", "tests")
_ENCODED_AT_ONCE = 256
_MEMORY_BYTES = 1 << 30

_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclasses.dataclass
class SplitPart:
    """What one chunk adds to a split, beside the lines in its files.

    Attributes:
        path: kind -> file of lines.
        rows: kind -> number of lines.
        counts: solutions by label, and those left out by reason.
        tokens: int32, of BOS, instruction, input, output and EOS, per record.
        characters: int32, of instruction, input and output, per record.
        labels: (correct, incorrect) solutions per problem.
        difficulties: number of problems per difficulty; "" counts those without one.
    """

    path: dict[str, Path]
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    tokens: list[np.ndarray] = dataclasses.field(default_factory=list)
    characters: list[np.ndarray] = dataclasses.field(default_factory=list)
    labels: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    difficulties: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, file: BinaryIO, task: Task, solutions: list[Solution], tokens: np.ndarray) -> None:
        """Writes the records of one problem and counts them."""
        problem = task.problem
        head = f'{{"instruction": {_json(problem.instruction)}, "input": {_json(problem.input)}, "output": '
        for solution in solutions:
            line = (
                f'{head}{_json(solution.output)}, "task_id": {_json(solution.task_id)}, "is_correct": '
                f'{_json(solution.is_correct)}, "metadata": {_json({**task.metadata, **solution.metadata})}}}\n'
            )
            file.write(line.encode())
        correct = sum(solution.is_correct for solution in solutions)
        text = len(problem.instruction) + len(problem.input)
        self.rows["records"] += len(solutions)
        self.counts.update(correct=correct, incorrect=len(solutions) - correct)
        self.tokens.append(tokens)
        self.characters.append(np.array([text + len(solution.output) for solution in solutions], np.int32))
        self.labels.append((correct, len(solutions) - correct))
        self.difficulties[str(task.metadata.get("difficulty") or "")] += 1

    def add_tests(self, file: BinaryIO, row: dict[str, Any]) -> None:
        """Writes a row for the evaluator."""
        file.write(f"{_json(row)}\n".encode())
        self.rows["tests"] += 1


def process_chunk(
    number: int,
    chunk: Chunk,
    name: str,
    settings: Settings,
    work: Path,
    benchmark: BenchmarkTexts | None,
    verdicts: Path,
    limits: dict[str, int] | None = None,
) -> dict[str, SplitPart]:
    """Turns one chunk into lines.

    Args:
        number: of the chunk, part of the names of the files that are written.
        chunk: of the source.
        name: of the data set.
        settings: of the set-up.
        work: directory for the lines.
        benchmark: test problems that must not be among the training problems.
        verdicts: directory that keeps what came out of `reexecute`.
        limits: records that are still wanted of each split, lowered by those taken here; None takes all.

    Returns:
        Split -> what the chunk adds to it.

    Raises:
        UserError: the source is damaged or of another form.
    """
    recipe, parts, files = RECIPES[name], {}, {}
    room = limits if limits is not None else dict.fromkeys(recipe.splits, math.inf)
    with contextlib.ExitStack() as opened:
        for where, row in read_chunk(chunk, recipe, settings):
            with expected_form(where, recipe):
                task = recipe.task(row, chunk.split, where, settings)
                split = task.split
                if room[split] <= 0:
                    if chunk.split or max(room.values()) <= 0:
                        break
                    continue
                if split not in parts:
                    parts[split] = SplitPart({kind: work / f"{number:05}.{split}.{kind}" for kind in KINDS})
                    files[split] = {k: opened.enter_context(open(path, "wb")) for k, path in parts[split].path.items()}
                part = parts[split]
                part.counts.update(task.left_out)
                solutions, tokens = _choose(task, settings, benchmark, verdicts, part.counts)
                if len(solutions) > room[split]:
                    solutions, tokens = solutions[: room[split]], tokens[: room[split]]
                room[split] -= len(solutions)
                if solutions:
                    part.add(files[split]["records"], task, solutions, tokens)
                if task.tests is not None and (solutions or not settings.small or not task.solutions):
                    part.add_tests(files[split]["tests"], task.tests)
    return parts


def _choose(
    task: Task, settings: Settings, benchmark: BenchmarkTexts | None, verdicts: Path, counts: collections.Counter[str]
) -> tuple[list[Solution], np.ndarray]:
    """The solutions of a problem that are kept, and the tokens of their records; counts the others by reason."""
    instruction, text = task.problem.instruction, task.problem.instruction + task.problem.input
    counts["solutions"] += len(task.solutions)
    if not text:
        counts["no_description"] += len(task.solutions)
        return [], np.zeros(0, np.int32)
    if task.split == "train" and benchmark is not None and benchmark.contains(instruction):
        counts.update(contaminated=len(task.solutions), contaminated_problems=1)
        return [], np.zeros(0, np.int32)
    solutions = [solution for solution in task.solutions if solution.output.strip()]
    counts["empty"] += len(task.solutions) - len(solutions)
    if settings.deduplicate:
        solutions = _unique(solutions, counts)
    text.encode()
    (prompt,) = settings.tokenizer.lengths([text])
    tokens = np.zeros(len(solutions), np.int32)
    for begin in range(0, len(solutions), _ENCODED_AT_ONCE):
        texts = [solution.output for solution in solutions[begin : begin + _ENCODED_AT_ONCE]]
        "".join(texts).encode()  # raises where half of a surrogate pair came out of JSON
        tokens[begin : begin + len(texts)] = settings.tokenizer.lengths(texts, continuation=True)
    tokens += prompt
    kept = np.flatnonzero(tokens <= (settings.max_tokens or math.inf)).tolist()
    counts["over_length"] += len(solutions) - len(kept)
    if settings.small:
        first = {solutions[i].is_correct: i for i in reversed(kept)}
        kept = sorted(first.values())
    if settings.reexecute and kept:
        reproduced = _reproduced(task, [solutions[i] for i in kept], settings, verdicts)
        counts["not_reproduced"] += reproduced.count(False)
        kept = [i for i, same in zip(kept, reproduced, strict=True) if same]
    return [solutions[i] for i in kept], tokens[kept] + 2  # BOS and EOS


def _unique(solutions: list[Solution], counts: collections.Counter[str]) -> list[Solution]:
    """Each text once; texts that are labelled both ways not at all."""
    labels: dict[str, set[bool]] = collections.defaultdict(set)
    for solution in solutions:
        labels[solution.output].add(solution.is_correct)
    kept: dict[str, Solution] = {}
    for solution in solutions:
        if len(labels[solution.output]) > 1:
            counts["contradictory"] += 1
        elif solution.output in kept:
            counts["duplicates"] += 1
        else:
            kept[solution.output] = solution
    return list(kept.values())


def _reproduced(task: Task, solutions: list[Solution], settings: Settings, verdicts: Path) -> list[bool]:
    """Whether each solution's label is reproduced when it is run; never for a problem without tests.

    All programs of a data set run for hours, so what came out is kept, and a set-up that was killed does not run them
    again.
    """
    problem = task.problem
    if not (problem.cases or problem.tests):
        return [False] * len(solutions)
    tests = problem.test_source if problem.tests else ""
    identity = [problem.head, tests, problem.cases, settings.timeout_s, _MEMORY_BYTES]
    identity += [(solution.output, solution.is_correct) for solution in solutions]
    path = verdicts / hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    if path.is_file():
        return json.loads(path.read_bytes())
    from wmtp_jax.sandbox import Program, check_programs  # other set-ups do without

    programs = [Program(problem.head + solution.output, tests, cases=problem.cases) for solution in solutions]
    results = check_programs(programs, timeout_s=settings.timeout_s, memory_bytes=_MEMORY_BYTES, workers=1)
    same = [result.passed == s.is_correct for s, result in zip(solutions, results, strict=True)]
    write_atomically(path, json.dumps(same))
    return same
