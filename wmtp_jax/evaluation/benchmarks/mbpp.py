"""MBPP (Austin et al. 2021, arXiv 2108.07732): short tasks with three asserts each, three-shot or zero-shot."""

import re
from pathlib import Path
from typing import Any

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, text_field, texts_field
from wmtp_jax.evaluation.problems import EvaluationError, Limits, Problem, PromptOptions, functions_in

FIELDS = ("task_id", "code", "test_list")
# Section 2.1 of the paper. Tasks 1 to 10 are worked examples.
SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "valid": range(511, 601), "train": range(601, 975)}
# As code_eval of the harnesses that report MBPP.
LIMITS = Limits(timeout_s=3.0)

# Three-shot as in Meta's papers, worded as in figure 1 of Austin et al.
_SHOTS = ("MBPP/2", "MBPP/3", "MBPP/4")
_STOP = r"\[DONE\]"
# Zero-shot: the task is a docstring; the answer ends where something else than a function follows.
ZERO_SHOT_STOP = r"\n(?:class|assert|\"\"\"|print|if)"


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row of the full set, which calls the task `text`, or of the sanitised one, which calls it `prompt`.

    The set-up code runs after the answer and before the tests, as it may use the answer's classes.
    """
    number, asserts = row["task_id"], texts_field(row, "test_list", where)
    split = next((name for name, numbers in SPLITS.items() if type(number) is int and number in numbers), None)
    if split is None:
        raise EvaluationError(f"{where}: task_id is {shown(number)}; expected 1 to 974, the tasks of MBPP.")
    if not asserts:
        raise EvaluationError(f"{where}: test_list is empty; expected at least one assert.")
    setup = text_field(row, "test_setup_code", where) if row.get("test_setup_code") else ""
    solution = text_field(row, "code", where).replace("\r\n", "\n").rstrip() + "\n"
    return BenchmarkTask(
        task_id=f"MBPP/{number}",
        instruction=text_field(row, "text" if "text" in row else "prompt", where),
        input="\n".join(asserts),
        tests=tuple(text.replace("\r\n", "\n") for text in (setup, *texts_field(row, "test_imports", where), *asserts)),
        solution=solution,
        split=split,
        entry_points=entry_points_of(solution, "\n".join(asserts)),
    )


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of the test split, after three worked examples or none."""
    if path is None:
        raise EvaluationError("mbpp needs its problems: give their file with --data FILE.jsonl.")
    if options.shots not in (0, len(_SHOTS)):
        raise EvaluationError(f"mbpp is asked with {len(_SHOTS)} shots or with 0, not with {options.shots}.")
    tasks = {task.task_id: task for task in read_tasks(path, FIELDS, parse)}
    missing = next((name for name in _SHOTS if name not in tasks), None)
    if options.shots and missing:
        raise EvaluationError(
            f"{path}: task {missing.removeprefix('MBPP/')}, one of the {options.shots} examples, is missing; expected "
            "all of MBPP."
        )
    tests = [task for task in tasks.values() if task.split == "test"]
    if not tests:
        raise EvaluationError(f"{path}: no task from 11 to 510, the test split of MBPP; expected all of MBPP.")
    if not options.shots:
        return [zero_shot_problem(task) for task in tests]
    examples = "".join(f"{_question(tasks[name])}{tasks[name].solution}[DONE]\n" for name in _SHOTS)
    return [task.problem(examples + _question(task), _STOP) for task in tests]


def entry_points_of(solution: str, tests: str) -> tuple[str, ...]:
    """The functions of a reference solution that the tests use."""
    return tuple(name for name in functions_in(solution) if re.search(rf"\b{name}\b", tests))


def zero_shot_problem(task: BenchmarkTask) -> Problem:
    """The task and its asserts as a docstring, which the model's program follows."""
    prompt = f'"""\n{task.instruction}\n{task.input}\n"""\n'
    return task.problem(prompt, ZERO_SHOT_STOP)


def _question(task: BenchmarkTask) -> str:
    return (
        f"You are an expert Python programmer, and here is your task: {task.instruction} "
        f"Your code should pass these tests:\n\n{task.input}\n[BEGIN]\n"
    )
