"""How well a score tells correct from incorrect solutions, with an interval."""

import dataclasses
import math

import numpy as np

from wmtp_jax.weighting.ranges import WeightingError

_Z_95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class AreaUnderCurve:
    """Area under the ROC curve with its 95 % interval, and the numbers of solutions behind it."""

    value: float
    low: float
    high: float
    n_correct: int
    n_incorrect: int


def _variance(area: float, n_correct: int, n_incorrect: int) -> float:
    """Hanley and McNeil's variance, both class sizes less one replaced by their average."""
    n_star = 0.5 * (n_correct + n_incorrect) - 1.0
    spread = 1.0 + n_star * (1.0 - area) / (2.0 - area) + n_star * area / (1.0 + area)
    return area * (1.0 - area) * spread / (n_correct * n_incorrect)


def _bound(area: float, end: float, n_correct: int, n_incorrect: int) -> float:
    """The area between the observed one and `end` that lies _Z_95 of its own standard errors away from it."""
    near, far = area, end
    for _ in range(100):
        middle = 0.5 * (near + far)
        if abs(middle - area) > _Z_95 * math.sqrt(_variance(middle, n_correct, n_incorrect)):
            far = middle
        else:
            near = middle
    return 0.5 * (near + far)


def area_under_curve(scores: np.ndarray, is_correct: np.ndarray) -> AreaUnderCurve:
    """The chance that a correct solution scores above an incorrect one; a tie counts half.

        AUC = (sum of the correct solutions' ranks - n (n + 1) / 2) / (n m),   tied scores share their mean rank

    The interval inverts a score test, so it stays inside [0, 1] and does not shrink to a point when the classes are
    perfectly apart. It takes solutions as independent: with many solutions per problem it is too narrow.

    Args:
        scores: [n], higher for solutions believed correct, for instance `before_last_token` of the values.
        is_correct: [n], the outcomes.

    Returns:
        The area with its 95 % interval.

    Raises:
        WeightingError: one class only, or scores that are not finite.

    Source: Mann and Whitney 1947; variance of Hanley and McNeil 1982; interval of Newcombe 2006 (Statistics in
        Medicine 25, 559-573), method 5.
    """
    scores = np.asarray(scores, np.float64).ravel()
    correct = np.asarray(is_correct).ravel() != 0
    if scores.shape != correct.shape:
        raise WeightingError(f"AUC got {scores.size} scores for {correct.size} outcomes, expected as many of both")
    n_bad = int(np.sum(~np.isfinite(scores)))
    if n_bad:
        raise WeightingError(
            f"{n_bad} of {scores.size} scores are NaN or infinite, so the AUC has no meaning: "
            "look for the first non-finite loss of the critic"
        )
    n, m = int(correct.sum()), int((~correct).sum())
    if n == 0 or m == 0:
        raise WeightingError(
            f"AUC needs correct and incorrect solutions, got {n} correct and {m} incorrect: add records of both classes"
        )
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank_of_group = np.cumsum(counts) - 0.5 * (counts - 1)
    rank_sum = float(mean_rank_of_group[group][correct].sum())
    area = (rank_sum - 0.5 * n * (n + 1)) / (n * m)
    return AreaUnderCurve(area, _bound(area, 0.0, n, m), _bound(area, 1.0, n, m), n, m)
