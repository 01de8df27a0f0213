"""Judge a model by whether its programs pass their tests: benchmarks, samples, pass@k."""

from wmtp_jax.evaluation.problems import EvaluationError, Problem, record_problems
from wmtp_jax.evaluation.summary import bootstrap_interval, pass_at_k
from wmtp_jax.sandbox import run_program

__all__ = ["EvaluationError", "Problem", "bootstrap_interval", "pass_at_k", "record_problems", "run_program"]
