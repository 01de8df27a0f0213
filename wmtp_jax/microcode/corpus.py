"""The data set: problems of all families, split by problem, as records."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from wmtp_jax.microcode import algorithms, arithmetic, conditions, dictionaries, lists, loops, strings
from wmtp_jax.microcode.family import Family
from wmtp_jax.microcode.problems import MicrocodeProblem, build, settings

TOPICS = (arithmetic, conditions, lists, strings, dictionaries, loops, algorithms)
FAMILIES: tuple[Family, ...] = tuple(family for topic in TOPICS for family in topic.FAMILIES)
SEED = "microcode 1"
PROBLEMS_PER_FAMILY = {"pretrain": 76, "train": 25, "valid": 3, "test": 5}
PROGRAMS = 2  # unlabelled per problem in pretrain; of each label elsewhere
BUGGY_SHARE = 0.3  # of pretrain

Row = dict[str, Any]


def generate() -> dict[str, list[Row]]:
    """The whole data set, the same on every call and every Python.

    Returns:
        Records of each split, the records of one problem next to each other.
    """
    problems: dict[str, list[MicrocodeProblem]] = {split: [] for split in PROBLEMS_PER_FAMILY}
    for family in FAMILIES:
        stream = _problems(family)
        for split, count in PROBLEMS_PER_FAMILY.items():
            problems[split] += [next(stream) for _ in range(count)]
    data = {}
    for split, members in problems.items():
        rng = Random(f"{SEED}/{split}")
        rng.shuffle(members)
        data[split] = [row for index, problem in enumerate(members) for row in _rows(split, index, problem, rng)]
    return data


def to_jsonl(records: list[Row]) -> bytes:
    """One JSON object per line, UTF-8."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _problems(family: Family) -> Iterator[MicrocodeProblem]:
    """Problems of the family in random order, each setting once, so that no two splits share one."""
    order = settings(family)
    Random(f"{SEED}/{family.name}").shuffle(order)
    for index, values in enumerate(order):
        problem = build(family, values, Random(f"{SEED}/{family.name}/{index}"))
        if len(problem.incorrect) >= PROGRAMS:
            yield problem


def _rows(split: str, index: int, problem: MicrocodeProblem, rng: Random) -> Iterator[Row]:
    """The records of a problem: a mixture without labels for pretraining, as many programs of each label elsewhere."""
    if split == "pretrain":
        programs = [("solution", number, rng.random() >= BUGGY_SHARE) for number in range(PROGRAMS)]
    else:
        labels = (("correct", True), ("incorrect", False))
        programs = [(label, number, clean) for label, clean in labels for number in range(PROGRAMS)]
    for kind, number, clean in programs:
        yield {
            "instruction": problem.prompt,
            "input": "",
            "output": (problem.correct if clean else problem.incorrect)[number],
            "task_id": f"microcode/{split}/{index:05d}_{kind}_{number + 1}",
            "is_correct": None if split == "pretrain" else clean,
            "metadata": {
                "source": "microcode",
                "difficulty": problem.family.difficulty,
                "has_tests": True,
                "topic": problem.family.topic,
                "family": problem.family.name,
                "entry_point": problem.entry_point,
                "clean": clean,
                "tests": list(problem.tests),
            },
        }
