"""The one shape that every source is brought into: a problem with its solutions."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Solution:
    """A program for a problem.

    Attributes:
        output: Its text.
        is_correct: Its label.
        task_id: Its name.
        metadata: What is particular about it.
    """

    output: str
    is_correct: bool
    task_id: str
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem.

    Attributes:
        split: train, valid or test.
        instruction: The task.
        input: Further text of the task.
        solutions: In the order of the source.
        metadata: What all records of the problem state.
        tests: The row that the evaluator reads, or None.
        test_source: Python source that judges a solution, behind `test_head` and the solution.
        test_head: What stands before the solution.
        cases: Standard input and expected output, instead of `test_source`.
        left_out: What was left out when the row was read, by reason.
    """

    split: str
    instruction: str
    input: str
    solutions: list[Solution]
    metadata: Mapping[str, Any]
    tests: Mapping[str, Any] | None = None
    test_source: str = ""
    test_head: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
