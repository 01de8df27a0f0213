"""What a benchmark asks, and how an answer becomes a program: the one form that all benchmarks share."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wmtp_jax.data import Record, render, task_of
from wmtp_jax.errors import UserError, shown
from wmtp_jax.files import json_digest
from wmtp_jax.sandbox import Program

# An answer ends where a line starts in column 0: the body of the function that the prompt opened is over.
BODY_ENDS = r"(?m)^(?=\S)"
NEVER = r"(?!)"

# The columns of CodeContests that hold tests.
CASE_FIELDS = ("public_tests", "private_tests", "generated_tests")


class EvaluationError(UserError):
    """A benchmark, a sample file or an option that does not fit, in one sentence."""


@dataclass(frozen=True)
class PromptOptions:
    """How problems are put to the model.

    Attributes:
        template: "raw" or "alpaca", where the benchmark leaves the choice; None for its default.
        shots: worked examples before each problem, where the benchmark has some.
    """

    template: str | None = None
    shots: int = 3


@dataclass(frozen=True)
class Limits:
    """What the benchmark's own judge grants a program.

    Attributes:
        timeout_s: wall-clock seconds.
        memory_mb: address space.
        packages: installed packages that its tests import.
    """

    timeout_s: float = 10.0
    memory_mb: int = 1024
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One task of a benchmark.

    Attributes:
        task_id: its name, unique in the benchmark.
        prompt: what the model continues.
        stop: regular expression; the answer is cut where it first matches.
        head: what precedes the answer in the program (the prompt itself, or nothing).
        tests: Python source that follows the program and raises where it is wrong.
        cases: pairs of standard input and expected standard output; instead of tests.
        solution: a correct answer, on which the heads' losses are measured; "" where none is known.
        base_tests: the part of the tests whose result is shown beside that of all; "" where there is no such part.
        module_name, entry_points, helpers: as of `Program`.
    """

    task_id: str
    prompt: str
    stop: str
    head: str = ""
    tests: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    solution: str = ""
    base_tests: str = ""
    module_name: str = "__main__"
    entry_points: tuple[str, ...] = ()
    helpers: str = ""

    def answer(self, completion: str) -> str:
        """The completion up to the first match of the stop rule; leading whitespace is code and stays."""
        match = re.search(self.stop, completion)
        return completion[: match.start()] if match else completion

    def program(self, completion: str) -> Program:
        """The program that a completion makes, with its tests; without source for an empty answer."""
        answer = self.answer(completion)
        return self.judged(self.head + answer if answer.strip() else "")

    def judged(self, source: str) -> Program:
        """A whole program, with the problem's tests."""
        return Program(
            source,
            self.tests,
            cases=self.cases,
            module_name=self.module_name,
            entry_points=self.entry_points,
            helpers=self.helpers,
        )


def record_problems(records: Iterable[Record], *, template: str = "raw", where: str = "records") -> list[Problem]:
    """The problems of solution records that have their tests in the metadata.

    `metadata.tests` is a list of assert lines; the program is then the prompt and the answer. Or `public_tests`,
    `private_tests` and `generated_tests` are {"input": [..], "output": [..]}; the program is then the answer alone.
    Solutions of one problem are grouped by task id; the first record's prompt and tests count.

    Args:
        records: of microcode, or of any file of that schema.
        template: how instruction and input become the prompt.
        where: the file, for messages.

    Returns:
        One `Problem` per task, in the order of first appearance.

    Raises:
        EvaluationError: a task without tests, or no task at all.
    """
    firsts: dict[str, tuple[int, Record]] = {}
    solutions: dict[str, str] = {}
    for number, record in enumerate(records, start=1):
        name = task_of(record.task_id)
        firsts.setdefault(name, (number, record))
        if record.is_correct:
            solutions.setdefault(name, record.output)
    problems = []
    for name, (number, record) in firsts.items():
        tests, cases = record.metadata.get("tests"), test_cases(record.metadata, f"{where}:{number}")
        if not cases and not (isinstance(tests, list) and tests and all(isinstance(line, str) for line in tests)):
            raise EvaluationError(
                f"{where}:{number}: task {shown(name)} has no tests: expected metadata.tests, a list of assert lines, "
                f"or {CASE_FIELDS[0]} with input and output; without them no program can be judged."
            )
        problems.append(
            Problem(
                task_id=name,
                prompt=render(record, template),
                stop=NEVER if cases else BODY_ENDS,
                head="" if cases else record.instruction + record.input,
                tests="" if cases else "\n".join(tests) + "\n",
                cases=cases,
                solution=solutions.get(name, ""),
                entry_points=() if cases else tuple(functions_in(record.instruction + record.input)[-1:]),
            )
        )
    if not problems:
        raise EvaluationError(f"{where}: no problem in it; expected one record per line.")
    return problems


def functions_in(source: str) -> list[str]:
    """The names of the functions that a source defines at its outermost level."""
    return re.findall(r"(?m)^(?:async )?def (\w+)", source)


def problems_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of all that determines a sample or its verdict."""
    # The last is the place of the solution, which determines neither: with it, samples of earlier versions are known.
    fields = [(each.task_id, each.prompt, each.stop, each.head, each.tests, each.cases, "") for each in problems]
    return json_digest(fields)


def test_cases(fields: dict, where: str) -> tuple[tuple[str, str], ...]:
    """The pairs of input and output in those of CodeContests' three columns that are there.

    Raises:
        EvaluationError: a column that is not {"input": [strings], "output": [as many strings]}.
    """
    cases = []
    for name in CASE_FIELDS:
        column = fields.get(name) or {"input": [], "output": []}
        given, expected = (column.get(key) if isinstance(column, dict) else None for key in ("input", "output"))
        lists = isinstance(given, list) and isinstance(expected, list) and len(given) == len(expected)
        if not lists or not all(isinstance(text, str) for text in given + expected):
            raise EvaluationError(
                f'{where}: {name} is not {{"input": [strings], "output": [as many strings]}}; expected the columns of '
                "CodeContests."
            )
        cases += zip(given, expected, strict=True)
    return tuple(cases)
