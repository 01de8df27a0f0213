"""What a benchmark asks and how an answer becomes a program: the one shape all benchmarks share."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wmtp_jax.data import Record, render
from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.execution import Program

# An answer ends where a line starts in column 0: the body of the function that the prompt opened is over.
BODY_ENDS = r"(?m)^(?=\S)"

_SOLUTION = re.compile(r"_(?:in)?correct_\d+$")


@dataclass(frozen=True)
class Problem:
    """One task of a benchmark.

    Attributes:
        task_id: its name, unique in the benchmark.
        prompt: what the model continues.
        stop: regular expression; the answer is cut where it first matches.
        head: what stands before the answer in the program (the prompt itself, or nothing).
        tests: Python source that follows the program and raises where it is wrong.
        cases: pairs of standard input and expected standard output; instead of tests.
    """

    task_id: str
    prompt: str
    stop: str
    head: str = ""
    tests: str = ""
    cases: tuple[tuple[str, str], ...] = ()

    def answer(self, completion: str) -> str:
        """The completion up to the first match of the stop rule; leading whitespace is code and stays."""
        match = re.search(self.stop, completion)
        return completion[: match.start()] if match else completion

    def program(self, completion: str) -> Program:
        """The program that a completion stands for, with its tests."""
        return Program(self.head + self.answer(completion), self.tests)


def task_of(task_id: str) -> str:
    """A record's problem: its task id without the `_correct_N` or `_incorrect_N` of one solution."""
    return _SOLUTION.sub("", task_id)


def record_problems(records: Iterable[Record], *, template: str = "raw", where: str = "records") -> list[Problem]:
    """The problems behind solution records that carry assert lines in `metadata.tests`.

    Solutions of one problem are grouped by task id; the first record's prompt and tests count.

    Args:
        records: of microcode, or of any file of that schema.
        template: how instruction and input become the prompt.
        where: the file, for messages.

    Returns:
        One `Problem` per task, in the order of first appearance.
    """
    problems = {}
    for number, record in enumerate(records, start=1):
        name = task_of(record.task_id)
        if name in problems:
            continue
        tests = record.metadata.get("tests")
        if not isinstance(tests, list) or not tests or not all(isinstance(line, str) for line in tests):
            raise EvaluationError(
                f"{where}:{number}: metadata.tests of task {name!r} is {tests!r:.60}; expected a list of assert lines, "
                "without which no program can be judged."
            )
        problems[name] = Problem(
            task_id=name,
            prompt=render(record, template),
            stop=BODY_ENDS,
            head=record.instruction + record.input,
            tests="\n".join(tests) + "\n",
        )
    if not problems:
        raise EvaluationError(f"{where}: no problem in it; expected one record per line.")
    return list(problems.values())
