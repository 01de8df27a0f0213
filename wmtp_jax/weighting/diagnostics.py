"""What weights and critic are worth, in numbers: metrics of every step, the critic's AUC, warnings in plain words."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.weighting.masked import WeightingError, as_tokens, masked_max, masked_mean, masked_min, token_count
from wmtp_jax.weighting.token_weights import normalized_entropy

_Z_95 = 1.959963984540054
_LEAST_EFFECTIVE_SHARE = 0.1
_MOST_POSITION_CORRELATION = 0.8


def weight_metrics(weights: jax.Array, mask: jax.Array, *, clip: tuple[float, float] | None) -> dict[str, jax.Array]:
    """Describes the token weights of a global batch.

        effective_sample_size = (sum w)^2 / sum w^2       effective_sample_share = effective_sample_size / T

    Args:
        weights: [B, S] float.
        mask: [B, S], the weighted tokens; T of them.
        clip: the bounds that the weights were clipped to, or None.

    Returns:
        fp32 scalars: weight_mean, weight_std, weight_min, weight_max, weight_clip_share (tokens at a bound),
        weight_entropy (normalised: 1 when all are equal), effective_sample_size (tokens), effective_sample_share,
        weight_position_correlation (Pearson, with the position in the response from 0 to 1; 0 without spread).

    Source: effective sample size of Kish 1965.
    """
    weights_BxS, mask_BxS = as_tokens(weights, mask)
    mean, variance = _mean_and_variance(weights_BxS, mask_BxS)
    relative_BxS = jnp.where(mask_BxS, _ratio(weights_BxS, mean), 0.0)
    share = _ratio(1.0, masked_mean(relative_BxS**2, mask_BxS))
    count_BxS = jnp.cumsum(mask_BxS, axis=1)
    position_BxS = (count_BxS - 1) / jnp.maximum(count_BxS[:, -1:] - 1, 1).astype(jnp.float32)
    mean_position, position_variance = _mean_and_variance(position_BxS, mask_BxS)
    covariance = masked_mean((weights_BxS - mean) * (position_BxS - mean_position), mask_BxS)
    at_bound_BxS = jnp.zeros_like(mask_BxS) if clip is None else (weights_BxS <= clip[0]) | (weights_BxS >= clip[1])
    return {
        "weight_mean": mean,
        "weight_std": jnp.sqrt(variance),
        "weight_min": masked_min(weights_BxS, mask_BxS),
        "weight_max": masked_max(weights_BxS, mask_BxS),
        "weight_clip_share": masked_mean(at_bound_BxS.astype(jnp.float32), mask_BxS),
        "weight_entropy": normalized_entropy(relative_BxS, mask_BxS),
        "effective_sample_size": share * token_count(mask_BxS),
        "effective_sample_share": share,
        "weight_position_correlation": _ratio(covariance, jnp.sqrt(variance * position_variance)),
    }


def td_error_metrics(td_errors: jax.Array, target_mask: jax.Array) -> dict[str, jax.Array]:
    """td_error_mean and td_error_std, fp32 scalars, of the errors [B, S] over the response tokens [B, S]."""
    mean, variance = _mean_and_variance(*as_tokens(td_errors, target_mask))
    return {"td_error_mean": mean, "td_error_std": jnp.sqrt(variance)}


def explained_variance(values: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Share of the targets' variance that the values explain: 1 - Var(targets - values) / Var(targets).

    Values and targets are [B, S] float, the mask [B, S] as of `value_positions`. Returns an fp32 scalar: 1 for perfect
    values, 0 for a constant (and for targets without variance), negative for worse.
    """
    (values_BxS, mask_BxS), (targets_BxS, _) = as_tokens(values, mask), as_tokens(targets, mask)
    _, of_targets = _mean_and_variance(targets_BxS, mask_BxS)
    _, of_residuals = _mean_and_variance(targets_BxS - values_BxS, mask_BxS)
    return _ratio(of_targets - of_residuals, of_targets)


def _mean_and_variance(x_BxS, mask_BxS):
    mean = masked_mean(x_BxS, mask_BxS)
    return mean, masked_mean((x_BxS - mean) ** 2, mask_BxS)


def _ratio(numerator, denominator):
    """0 where there is nothing to divide by: a log of numbers must not hold NaN for a batch without spread."""
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), 0.0)


class AreaUnderCurve(NamedTuple):
    """Area under the ROC curve, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def area_under_curve(scores: np.ndarray, is_correct: np.ndarray) -> AreaUnderCurve:
    """The chance that a correct solution scores above an incorrect one; a tie counts half.

        AUC = (sum of the correct solutions' ranks - n (n + 1) / 2) / (n m),   tied scores share their mean rank

    The interval stays inside [0, 1] and does not shrink to a point when the classes are perfectly apart. It takes
    solutions as independent: with many solutions per problem it is too narrow.

    Args:
        scores: [n], higher for solutions believed correct, for instance `before_last_token` of the values.
        is_correct: [n], the outcomes.

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
    return AreaUnderCurve(area, _bound(area, 0.0, n, m), _bound(area, 1.0, n, m))


def _bound(area: float, end: float, n: int, m: int) -> float:
    """The area between the observed one and `end` that lies 1.96 of its own standard errors away from it."""
    near, far = area, end
    n_star = 0.5 * (n + m) - 1.0  # in the place of both class sizes less one
    for _ in range(100):
        middle = 0.5 * (near + far)
        spread = 1.0 + n_star * (1.0 - middle) / (2.0 - middle) + n_star * middle / (1.0 + middle)
        variance = middle * (1.0 - middle) * spread / (n * m)
        if abs(middle - area) > _Z_95 * math.sqrt(variance):
            far = middle
        else:
            near = middle
    return 0.5 * (near + far)


def collapse_warnings(metrics: Mapping[str, float]) -> list[str]:
    """Says in plain words when weights or critic have stopped meaning anything.

    Args:
        metrics: those of `weight_metrics`; value_auc and its interval's lower end value_auc_low; untrained_auc, the AUC
            of `untrained_score` on the same solutions. What is absent is not judged.

    Returns:
        One sentence per warning, the gravest first; empty when all is well.
    """
    warnings = []
    share = metrics.get("effective_sample_share")
    if share is not None and share < _LEAST_EFFECTIVE_SHARE:
        warnings.append(
            f"The weights have collapsed: they act as if only {share:.1%} of the tokens were there "
            f"(warning below {_LEAST_EFFECTIVE_SHARE:.0%}). Raise the temperature or the entropy floor, or narrow "
            "the clip."
        )
    correlation = metrics.get("weight_position_correlation")
    if correlation is not None and abs(correlation) > _MOST_POSITION_CORRELATION:
        side = "late" if correlation > 0 else "early"
        warnings.append(
            f"The weights follow position: their correlation with the position in the response is {correlation:+.2f}, "
            f"so {side} tokens are favoured whatever they say. Bring lambda nearer to 1 or train the critic longer."
        )
    if "value_auc" not in metrics:
        return warnings
    auc, low, untrained = metrics["value_auc"], metrics["value_auc_low"], metrics.get("untrained_auc")
    if low <= 0.5:
        warnings.append(
            f"The critic is no better than chance at telling correct from incorrect solutions (AUC {auc:.3f}, interval "
            f"from {low:.3f}): its weights are noise. Train it longer, on more problems, or give it the surprise "
            "features."
        )
    if untrained is not None and untrained >= low:
        warnings.append(
            f"The critic (AUC {auc:.3f}, interval from {low:.3f}) does not clearly beat the untrained score, the "
            f"policy's largest surprise (AUC {untrained:.3f}): what it has learned beyond what the policy knew is not "
            "shown here."
        )
    return warnings
