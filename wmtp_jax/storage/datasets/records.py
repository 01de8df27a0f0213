"""A worker's part: the rows of a chunk become lines of records, rows of tests, and counts."""

import collections
import contextlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wmtp_jax.data import Record
from wmtp_jax.files import json_digest, write_atomically
from wmtp_jax.storage.datasets.contamination import BenchmarkTexts
from wmtp_jax.storage.datasets.recipes import RECIPES, Settings, Task
from wmtp_jax.storage.datasets.sources import Chunk, expected_form, read_chunk

KINDS = ("processed", "tests")  # of lines, and their directories: records, and rows for the evaluator
# Records of a small version, by split.
SMALL = {"train": 100, "valid": 32, "test": 32}
_ENCODED_AT_ONCE = 256
_MEMORY_BYTES = 1 << 30

_json = json.JSONEncoder(ensure_ascii=False).encode


class ProblemCounts(NamedTuple):
    """What there is to count of the records of one problem."""

    tokens: np.ndarray  # int32, of BOS, instruction, input, output and EOS, per record
    characters: np.ndarray  # int32, of instruction, input and output, per record
    correct: int
    incorrect: int
    difficulty: str  # "" where there is none


class SplitPart(NamedTuple):
    """What one chunk adds to a split, beside its lines."""

    solutions: collections.Counter[str]  # all there are, and those left out by reason
    problems: list[ProblemCounts]


class ChunkWorker:
    """Turns chunks of a source into lines in the directory `work`; goes to worker processes whole.

    Problems of `benchmark` must not be among the training problems. What `reexecute` finds is kept in `verdicts`.
    """

    def __init__(self, name: str, settings: Settings, work: Path, benchmark: BenchmarkTexts | None, verdicts: Path):
        self.name, self.settings, self._work = name, settings, work
        self._benchmark, self._verdicts = benchmark, verdicts
        # How many records are still wanted of each split.
        self._room = dict(SMALL) if settings.small else dict.fromkeys(RECIPES[name].splits, math.inf)

    def lines(self, number: int, split: str, kind: str) -> Path:
        """The file of the lines that a chunk adds to a split."""
        return self._work / f"{number:05}.{split}.{kind}"

    def __call__(self, number: int, chunk: Chunk) -> dict[str, SplitPart]:
        """Writes the lines of a chunk; returns what it adds to each split that it has rows of."""
        recipe, found, files = RECIPES[self.name], {}, {}
        with contextlib.ExitStack() as opened:
            for where, row in () if self._is_full(chunk) else read_chunk(chunk, recipe, self.settings):
                with expected_form(where, recipe):
                    task = recipe.task(row, chunk.split, where, self.settings)
                    split = task.split
                    if self._room[split] <= 0:
                        if self._is_full(chunk):
                            break
                        continue
                    if split not in found:
                        found[split] = SplitPart(collections.Counter(), [])
                        paths = {kind: self.lines(number, split, kind) for kind in KINDS}
                        files[split] = {kind: opened.enter_context(open(path, "wb")) for kind, path in paths.items()}
                    found[split].solutions.update(task.left_out)
                    records, tokens = self._choose(task, found[split].solutions)
                    if len(records) > self._room[split]:
                        records, tokens = records[: self._room[split]], tokens[: self._room[split]]
                    self._room[split] -= len(records)
                    if records:
                        files[split]["processed"].write(_lines(records))
                        found[split].problems.append(_count(records, tokens))
                    if task.tests is not None and (records or not self.settings.small or not task.records):
                        files[split]["tests"].write(f"{_json(task.tests)}\n".encode())
        return found

    def _is_full(self, chunk: Chunk) -> bool:
        return (self._room[chunk.split] if chunk.split else max(self._room.values())) <= 0

    def _choose(self, task: Task, counts: collections.Counter[str]) -> tuple[list[Record], np.ndarray]:
        """The records of a problem that are kept, and how many tokens they have; counts the others by reason."""
        settings, problem = self.settings, task.problem
        counts["solutions"] += len(task.records)
        if not problem.instruction + problem.input:
            counts["no_description"] += len(task.records)
            return [], np.zeros(0, np.int32)
        if task.split == "train" and self._benchmark is not None and self._benchmark.contains(problem.instruction):
            counts.update(contaminated=len(task.records), contaminated_problems=1)
            return [], np.zeros(0, np.int32)
        records = [record for record in task.records if record.output.strip()]
        counts["empty"] += len(task.records) - len(records)
        if settings.deduplicate:
            records = _unique(records, counts)
        tokens = _count_tokens(settings, problem.instruction + problem.input, [record.output for record in records])
        kept = np.flatnonzero(tokens <= (settings.max_tokens or math.inf)).tolist()
        counts["over_length"] += len(records) - len(kept)
        if settings.small:
            first = {records[i].is_correct: i for i in reversed(kept)}
            kept = sorted(first.values())
        if settings.reexecute and kept:
            reproduced = self._reproduced(task, [records[i] for i in kept])
            counts["not_reproduced"] += reproduced.count(False)
            kept = [i for i, same in zip(kept, reproduced, strict=True) if same]
        return [records[i] for i in kept], tokens[kept] + 2  # BOS and EOS

    def _reproduced(self, task: Task, records: list[Record]) -> list[bool]:
        """Whether each label is reproduced when the program is run; never for a problem without tests.

        All programs of a data set run for hours, so what came out is kept, with a digest: a set-up that was killed does
        not run them again.
        """
        problem = task.problem
        if not (problem.cases or problem.tests):
            return [False] * len(records)
        tests, timeout_s = problem.test_source if problem.tests else "", self.settings.timeout_s
        labelled = [(record.output, record.is_correct) for record in records]
        identity = json_digest([problem.head, tests, problem.cases, timeout_s, _MEMORY_BYTES, labelled])
        path = self._verdicts / identity
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged: run again
            kept = json.loads(path.read_bytes())
            if kept["sha256"] == json_digest([identity, kept["reproduced"]]):
                return kept["reproduced"]
        from wmtp_jax.sandbox import Program, check_programs  # other set-ups do without

        programs = [Program(problem.head + record.output, tests, cases=problem.cases) for record in records]
        results = check_programs(programs, timeout_s=timeout_s, memory_bytes=_MEMORY_BYTES, workers=1)
        same = [result.passed == record.is_correct for record, result in zip(records, results, strict=True)]
        write_atomically(path, json.dumps({"reproduced": same, "sha256": json_digest([identity, same])}))
        return same


def _count(records: list[Record], tokens: np.ndarray) -> ProblemCounts:
    characters = [len(record.instruction) + len(record.input) + len(record.output) for record in records]
    correct = sum(record.is_correct for record in records)
    incorrect = len(records) - correct
    return ProblemCounts(tokens, np.array(characters, np.int32), correct, incorrect, records[0].difficulty)


def _lines(records: list[Record]) -> bytes:
    """The lines of one problem's records, whose prompt is put into JSON once."""
    head = f'{{"instruction": {_json(records[0].instruction)}, "input": {_json(records[0].input)}, "output": '
    lines = [
        f'{head}{_json(record.output)}, "task_id": {_json(record.task_id)}, "is_correct": {_json(record.is_correct)}, '
        f'"metadata": {_json(record.metadata)}}}\n'
        for record in records
    ]
    return "".join(lines).encode()


def _count_tokens(settings: Settings, prompt: str, outputs: list[str]) -> np.ndarray:
    """int32, tokens of prompt and output together, without BOS and EOS."""
    prompt.encode()  # raises where half of a surrogate pair came out of JSON
    tokens = np.zeros(len(outputs), np.int32)
    for begin in range(0, len(outputs), _ENCODED_AT_ONCE):
        texts = outputs[begin : begin + _ENCODED_AT_ONCE]
        "".join(texts).encode()
        tokens[begin : begin + len(texts)] = settings.tokenizer.lengths(texts, continuation=True)
    return tokens + np.int32(settings.tokenizer.lengths([prompt])[0])


def _unique(records: list[Record], counts: collections.Counter[str]) -> list[Record]:
    """Each text once; texts that are labelled both ways not at all."""
    labels: dict[str, set[bool]] = collections.defaultdict(set)
    for record in records:
        labels[record.output].add(record.is_correct)
    kept: dict[str, Record] = {}
    for record in records:
        if len(labels[record.output]) > 1:
            counts["contradictory"] += 1
        elif record.output in kept:
            counts["duplicates"] += 1
        else:
            kept[record.output] = record
    return list(kept.values())
