"""Judge a model by whether its programs pass their tests: benchmarks, samples, pass@k."""

from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.passing import bootstrap_interval, pass_at_k
from wmtp_jax.evaluation.problems import Problem, record_problems
from wmtp_jax.sandbox import ExecutionError, Program, Verdict, check_programs, run_program

__all__ = [
    "EvaluationError",
    "ExecutionError",
    "Problem",
    "Program",
    "Verdict",
    "bootstrap_interval",
    "check_programs",
    "pass_at_k",
    "record_problems",
    "run_program",
]
