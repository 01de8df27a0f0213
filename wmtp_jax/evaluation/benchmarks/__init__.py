"""The benchmarks: where their tasks come from, how they are put to the model, where its answer ends, what judges it.

One file per benchmark with

    FIELDS            the fields that every row of its file has
    parse(row, where) one row -> BenchmarkTask (task.py): the benchmark's only parser. `wmtp_jax.storage` makes its
                      records of the same tasks: instruction, input, solution, and tests or cases
    load(path, options) -> [Problem]: prompts and stop rules; path is None without --data
    LIMITS            time, memory and packages that its own judge grants, where they are not the default

and its line in BENCHMARKS: this is all that a new benchmark takes. Nothing here imports jax.
"""

from pathlib import Path

from wmtp_jax.data import read_records
from wmtp_jax.errors import shown
from wmtp_jax.evaluation.benchmarks import codecontests, humaneval, humaneval_plus, mbpp, mbpp_plus
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask
from wmtp_jax.evaluation.problems import EvaluationError, Limits, Problem, PromptOptions, record_problems

__all__ = ["BENCHMARKS", "NEED_NO_CONSENT", "BenchmarkTask", "check_name", "limits_of", "load_problems"]

_MICROCODE = "storage/datasets_v2/microcode/test.jsonl.gz"


def _load_records(path: Path, options: PromptOptions) -> list[Problem]:
    return record_problems(read_records(path), template=options.template or "raw", where=str(path))


def _load_microcode(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The embedded tasks, from the working directory or from where the package lies."""
    shipped = (Path(_MICROCODE), Path(__file__).parents[3] / _MICROCODE)
    return _load_records(path or next((file for file in shipped if file.is_file()), shipped[0]), options)


BENCHMARKS = {
    "microcode": (_load_microcode, Limits()),
    "humaneval": (humaneval.load, humaneval.LIMITS),
    "humaneval_plus": (humaneval_plus.load, humaneval_plus.LIMITS),
    "mbpp": (mbpp.load, mbpp.LIMITS),
    "mbpp_plus": (mbpp_plus.load, mbpp_plus.LIMITS),
    "codecontests": (codecontests.load, Limits()),
}
_FILE = (_load_records, Limits())
# Programs for all others are run only where the user has agreed; what a model writes for the embedded tasks is judged
# in the sandbox like any other program, without being asked.
NEED_NO_CONSENT = ("microcode",)


def check_name(benchmark: str) -> None:
    """Raises EvaluationError unless it is one of BENCHMARKS, or a .jsonl or .jsonl.gz file."""
    if benchmark not in BENCHMARKS and not benchmark.endswith((".jsonl", ".jsonl.gz")):
        raise EvaluationError(
            f"unknown benchmark {shown(benchmark)}; expected one of {', '.join(BENCHMARKS)}, or a .jsonl file."
        )


def load_problems(
    benchmark: str, data: str | Path | None = None, *, template: str | None = None, shots: int = 3
) -> list[Problem]:
    """The problems of a benchmark.

    Args:
        benchmark: one of BENCHMARKS; or a .jsonl or .jsonl.gz file of records with tests.
        data: the benchmark's file, for those that come without one or to replace the usual one.
        template: prompt template of microcode, codecontests and files; by default alpaca for codecontests, else raw.
        shots: worked examples before each problem of mbpp, 3 or 0.

    Raises:
        UserError: unknown benchmark, or a file that is missing, malformed or has a task twice.
    """
    check_name(benchmark)
    path = Path(data) if data else None if benchmark in BENCHMARKS else Path(benchmark)
    load, _ = BENCHMARKS.get(benchmark, _FILE)
    return load(path, PromptOptions(template, shots))


def limits_of(benchmark: str) -> Limits:
    """What its judge grants a program."""
    return BENCHMARKS.get(benchmark, _FILE)[1]
