"""Token weights from scores, in four steps: normalise, softmax, entropy floor, clip.

Every step is one function over the mask tokens of the whole global batch. Between the steps weights are logarithms of
weights of mean 1, so that ratios of any size survive; values outside the mask mean nothing until the last line.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wmtp_jax.weighting.masked import (
    WeightingError,
    as_tokens,
    masked_max,
    masked_mean,
    masked_min,
    require,
    token_count,
)

_EPSILON = 1e-6  # the square root of the 1e-12 under the root of the z-score
_CLIP_TOLERANCE = 1e-6  # in log c: one part in a million of every weight, before the interpolation
_LOG_ZERO = -1e38  # in place of log 0: far below every logarithm that matters, and still finite after additions


class Statistics(NamedTuple):
    """Exponential moving averages of the scores' moments: a z-score that does not move with every batch.

    Attributes:
        first_moment: average of the batches' mean score, as all an fp32 scalar.
        second_moment: average of the batches' mean squared score.
        weight: the same average of the constant 1, by which the others are divided: 0 before the first update, then
            1 - decay^n.
    """

    first_moment: jax.Array
    second_moment: jax.Array
    weight: jax.Array


def init_statistics() -> Statistics:
    """Statistics that have seen nothing."""
    return Statistics(*(jnp.zeros((), jnp.float32) for _ in Statistics._fields))


def read_statistics(statistics: Statistics) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the scores seen so far, fp32 scalars (0 and 0 when nothing was seen).

        mean = m1 / w,     var = max(m2 / w - mean^2, 0),     w = 1 - decay^n

    Source: bias correction as in Kingma and Ba 2015 (arXiv 1412.6980), section 3.
    """
    weight = jnp.where(statistics.weight > 0, statistics.weight, 1.0)
    mean = statistics.first_moment / weight
    return mean, jnp.maximum(statistics.second_moment / weight - mean * mean, 0.0)


def update_statistics(statistics: Statistics, scores: jax.Array, mask: jax.Array, *, decay: float) -> Statistics:
    """Takes in one global batch: m <- decay * m + (1 - decay) * moment of the batch.

    Scores [B, S] float and mask [B, S] are those of the whole global batch; a batch without mask tokens changes
    nothing. Raises WeightingError for a decay outside [0, 1).
    """
    scores, mask = as_tokens(scores, mask)
    require("decay", decay, lambda d: 0 <= d < 1, "a number from 0 (the last batch only) to below 1")
    batch = Statistics(masked_mean(scores, mask), masked_mean(scores * scores, mask), jnp.float32(1.0))
    moved = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, statistics, batch)
    return jax.lax.stop_gradient(jax.tree.map(lambda old, new: jnp.where(jnp.any(mask), new, old), statistics, moved))


def token_weights(
    scores: jax.Array,
    mask: jax.Array,
    *,
    normalization: str,
    temperature: float,
    entropy_floor: float | None,
    clip: tuple[float, float] | None,
    statistics: Statistics | None = None,
) -> jax.Array:
    """Weights of mean 1 over the mask tokens of the global batch.

        1. z = normalised scores                                        `normalize_scores`
        2. w = T * softmax(z / temperature)                             `log_softmax_weights`
        3. p' = (1 - e) p + e / T, smallest e with H / ln T >= floor    `mix_to_entropy_floor`
        4. w = clip(c w, min, max) with the c for which mean(w) = 1     `clip_to_mean_one`

    Args:
        scores: [B, S] float, one score per target token of the whole global batch (not of a micro-batch or shard).
        mask: [B, S], the tokens that are weighted; T of them.
        normalization: "zscore", "minmax" or "none".
        temperature: > 0; infinity gives ones.
        entropy_floor: least normalised entropy in [0, 1] before clipping; 0 or None for no floor.
        clip: (min, max) with 0 <= min < 1 < max; None for no clip.
        statistics: running moments for the z-score instead of the batch's own, as they were before this batch.

    Returns:
        [B, S] fp32, 0 outside the mask, without gradient. Equal scores give exactly 1, an empty mask all zeros, and
        a NaN score NaN for every token, so that the guard of the training step sees it.

    Raises:
        WeightingError: a setting out of its range.

    Source: exponentiated advantages as in Peng et al. 2019 (arXiv 1910.00177), equation 6, normalised to mean 1.
    """
    scores_BxS, mask_BxS = as_tokens(jax.lax.stop_gradient(scores), mask)
    require("temperature", temperature, lambda t: t > 0, "a positive number (1.0 is usual, larger is more even)")
    require("entropy_floor", entropy_floor, lambda f: 0 <= f <= 1, "a share of the largest entropy, from 0 to 1")
    scores_BxS = jnp.where(mask_BxS, scores_BxS, 0.0)
    z_BxS = normalize_scores(scores_BxS, mask_BxS, normalization=normalization, statistics=statistics)
    log_weights_BxS = log_softmax_weights(z_BxS, mask_BxS, temperature=temperature)
    if entropy_floor is not None:
        log_weights_BxS = mix_to_entropy_floor(log_weights_BxS, mask_BxS, floor=entropy_floor)
    return clip_to_mean_one(log_weights_BxS, mask_BxS, clip=clip)


def normalize_scores(
    scores_BxS: jax.Array, mask_BxS: jax.Array, *, normalization: str, statistics: Statistics | None
) -> jax.Array:
    """Step 1: the scores of a global batch on one scale, [B, S] fp32.

        zscore: z = (x - mean) / sqrt(var + 1e-12)      minmax: z = (x - min) / (max - min)      none: z = x

    Never per sequence: at gamma = lambda = 1 the outcome R is one constant per solution, and centring each solution
    on its own would remove it. Statistics that have seen nothing, and None, mean those of this batch.
    """
    require("normalization", normalization, lambda n: n in ("zscore", "minmax", "none"), "one of zscore, minmax, none")
    if statistics is not None and normalization != "zscore":
        raise WeightingError(
            f"running statistics were given with normalization {normalization!r}, but only 'zscore' uses them: "
            "set normalization to 'zscore' or leave the statistics out"
        )
    if normalization == "none":
        return scores_BxS
    # Halved before they are subtracted: the range of large scores may overflow.
    low, high = 0.5 * masked_min(scores_BxS, mask_BxS), 0.5 * masked_max(scores_BxS, mask_BxS)
    if normalization == "minmax":
        return (0.5 * scores_BxS - low) / jnp.where(high == low, 1.0, high - low)
    # Centred on the middle and divided by half the range before anything is squared or summed: the z-score does not
    # change, nothing overflows, and a large common offset cancels exactly. Equal scores give exactly 0.
    half_range = jnp.maximum(high - low, _EPSILON)
    scaled_BxS = jnp.where(mask_BxS, (scores_BxS - (high + low)) / half_range, 0.0)
    centred_BxS = scaled_BxS - masked_mean(scaled_BxS, mask_BxS)
    variance = masked_mean(centred_BxS * centred_BxS, mask_BxS)
    of_batch_BxS = centred_BxS / jnp.sqrt(variance + (_EPSILON / half_range) ** 2)
    if statistics is None:
        return of_batch_BxS
    mean, variance = read_statistics(statistics)
    running_BxS = (scores_BxS - mean) / jnp.sqrt(variance + _EPSILON**2)
    return jnp.where(statistics.weight > 0, running_BxS, of_batch_BxS)


def log_softmax_weights(logits_BxS: jax.Array, mask_BxS: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """Step 2: log w with w = T * softmax(z / temperature), so that mean(w) = 1; equal logits give exactly 0."""
    relative_BxS = (logits_BxS - masked_max(logits_BxS, mask_BxS)) / temperature
    relative_BxS = jnp.where(mask_BxS, jnp.maximum(relative_BxS, _LOG_ZERO), 0.0)
    mean = masked_mean(jnp.exp(relative_BxS), mask_BxS)
    return relative_BxS - jnp.log(jnp.where(jnp.any(mask_BxS), mean, 1.0))


def mix_to_entropy_floor(log_weights_BxS: jax.Array, mask_BxS: jax.Array, *, floor: float) -> jax.Array:
    """Step 3: mixes the weights with the uniform ones just enough for their normalised entropy to reach a floor.

        p' = (1 - e) p + e / T,  so  w' = (1 - e) w + e,  with the smallest e in [0, 1] for which H(p') / ln T >= floor

    H rises in e, so bisection finds the e. It searches for the kept share 1 - e, which fp32 resolves best where it is
    small and one weight may be in the thousands.
    """
    weights_BxS = jnp.exp(jnp.where(mask_BxS, log_weights_BxS, 0.0))
    most = (1.0 - floor) * _largest_entropy(mask_BxS)
    is_reached = lambda kept: _divergence_from_uniform(kept * (weights_BxS - 1.0), mask_BxS) <= most

    def mix(_):
        kept, _ = _bisect(is_reached, 0.0, 1.0, tolerance=0.0)
        return jnp.log(kept * weights_BxS + (1.0 - kept))

    return jax.lax.cond(is_reached(1.0), lambda log_weights_BxS: log_weights_BxS, mix, log_weights_BxS)


def normalized_entropy(weights_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """H(p) / ln T of p = w / T, for weights of mean 1: from 0 (one has all) to 1 (all are equal, or T < 2)."""
    largest = _largest_entropy(mask_BxS)
    divergence = _divergence_from_uniform(weights_BxS - 1.0, mask_BxS)
    return jnp.where(largest > 0, 1.0 - divergence / jnp.where(largest > 0, largest, 1.0), 1.0)


def _largest_entropy(mask_BxS: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(token_count(mask_BxS), 1.0))


def _divergence_from_uniform(deviations_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """KL(p || uniform) = mean(w ln w) of p = w / T, from the deviations d = w - 1 of weights of mean 1.

    Written as mean((1 + d) ln(1 + d) - d), of which every term is >= 0 and exact near d = 0: nothing cancels.
    """
    # A weight below 1e-7 adds nothing to the sum; its own logarithm would be infinite at d = -1.
    logs_BxS = jnp.log1p(jnp.maximum(deviations_BxS, -1.0 + 1e-7))
    return masked_mean((1.0 + deviations_BxS) * logs_BxS - deviations_BxS, mask_BxS)


def clip_to_mean_one(log_weights_BxS: jax.Array, mask_BxS: jax.Array, *, clip: tuple[float, float] | None) -> jax.Array:
    """Step 4: weights [B, S] fp32, clipped and rescaled where not clipped, so that bounds and mean hold together.

        w' = clip(c w, min, max)   with the c for which mean(w') = 1

    The mean rises with c from min < 1 to max > 1, so bisection finds log c; in logarithms weights of any ratio take
    part. Between the ends of the last bracket the weights are interpolated, which puts the mean on 1 even where fp32
    cannot resolve log c. Weights that are within the bounds, and all without a clip, are returned as they are.
    """
    is_range = lambda bounds: len(bounds) == 2 and 0 <= bounds[0] < 1 < bounds[1]
    require("clip", clip, is_range, "two bounds (min, max) with 0 <= min < 1 < max, or None for no clip")

    def solve(_):
        low, high = clip
        clipped = lambda log_c: jnp.clip(jnp.exp(log_c + log_weights_BxS), low, high)
        excess = lambda log_c: masked_mean(clipped(log_c) - 1.0, mask_BxS)
        # At -largest every weight is at most 1; at log(high) - smallest every weight is at its upper bound.
        is_below = lambda log_c: excess(log_c) < 0.0
        below, above = _bisect(is_below, -largest, jnp.log(high) - smallest, tolerance=_CLIP_TOLERANCE)
        missing, surplus = -excess(below), excess(above)
        share = jnp.clip(missing / jnp.maximum(missing + surplus, jnp.finfo(jnp.float32).tiny), 0.0, 1.0)
        return clipped(below) + share * (clipped(above) - clipped(below))

    if clip is None:
        weights_BxS = jnp.exp(log_weights_BxS)
    else:
        smallest, largest = masked_min(log_weights_BxS, mask_BxS), masked_max(log_weights_BxS, mask_BxS)
        inside = (jnp.exp(smallest) >= clip[0]) & (jnp.exp(largest) <= clip[1])
        weights_BxS = jax.lax.cond(inside, jnp.exp, solve, log_weights_BxS)
    return jax.lax.stop_gradient(jnp.where(mask_BxS, weights_BxS, 0.0))


def _bisect(
    is_below: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array, *, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """Halves [low, high] around the end of `is_below` down to the tolerance, or to neighbouring floats at the least."""
    middle = lambda bracket: 0.5 * bracket[0] + 0.5 * bracket[1]

    def unfinished(bracket):
        between = (bracket[0] < middle(bracket)) & (middle(bracket) < bracket[1])
        return between & (bracket[1] - bracket[0] > tolerance)

    def halve(bracket):
        x, (low, high) = middle(bracket), bracket
        below = is_below(x)
        return jnp.where(below, x, low), jnp.where(below, high, x)

    return jax.lax.while_loop(unfinished, halve, (jnp.float32(low), jnp.float32(high)))
