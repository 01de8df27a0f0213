"""pass@k: the probability that at least one of k sampled programs passes."""

import math

import numpy as np

from wmtp_jax.evaluation.errors import EvaluationError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of pass@k from n samples of one problem of which c pass.

    `1 - C(n-c, k) / C(n, k)`: the share of all k-subsets of the samples that hold a passing one
    (Chen et al. 2021, arXiv 2107.03374, equation 1), in exact integers, so nothing cancels or overflows.

    Args:
        n: samples drawn, at least k.
        c: samples that passed, 0..n.
        k: programs allowed, at least 1.

    Raises:
        EvaluationError: where the estimate is not defined.
    """
    for name, value in (("n", n), ("c", c), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise EvaluationError(f"pass@k counts samples: {name} must be an integer, not {value!r}.")
    n, c, k = int(n), int(c), int(k)
    if k < 1:
        raise EvaluationError(f"pass@k needs k >= 1, not {k}.")
    if n < k:
        raise EvaluationError(
            f"pass@{k} is not defined for {n} samples per problem: draw at least {k}, or ask for k <= {n}."
        )
    if not 0 <= c <= n:
        raise EvaluationError(f"pass@k needs 0 <= c <= n, not c = {c} of n = {n} samples.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-problem values.

    Problems are the unit that is drawn again: samples of one problem are not independent (Efron 1979).

    Args:
        values: [problems], for instance each problem's pass@k.
        level: coverage, in (0, 1).
        resamples: how many times the problems are drawn again.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high); the mean twice where there is a single problem.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise EvaluationError("a bootstrap interval needs at least one problem.")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 500):
        rows = min(500, resamples - start)
        means[start : start + rows] = values[rng.integers(0, len(values), (rows, len(values)))].mean(1)
    tail = (1 - level) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))
