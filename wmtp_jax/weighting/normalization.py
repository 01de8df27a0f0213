"""Step 1 of the token weights: scores of the global batch on one scale."""

import jax
import jax.numpy as jnp

from wmtp_jax.weighting.masked import masked_max, masked_mean, masked_min
from wmtp_jax.weighting.ranges import WeightingError, require
from wmtp_jax.weighting.statistics import Statistics, read_statistics

NORMALIZATIONS = ("zscore", "minmax", "none")
_EPSILON = 1e-6  # the square root of the 1e-12 under the root of the z-score


def _zscore(scores_BxS, mask_BxS):
    """(x - mean) / sqrt(var + 1e-12), ddof 0.

    Centred on the middle and divided by half the range before anything is squared or summed: the z-score does not
    change, nothing overflows, and a large common offset cancels exactly. Equal scores give exactly 0.
    """
    low, high = 0.5 * masked_min(scores_BxS, mask_BxS), 0.5 * masked_max(scores_BxS, mask_BxS)
    half_range = jnp.maximum(high - low, _EPSILON)
    scaled_BxS = jnp.where(mask_BxS, (scores_BxS - (high + low)) / half_range, 0.0)
    centred_BxS = scaled_BxS - masked_mean(scaled_BxS, mask_BxS)
    variance = masked_mean(centred_BxS * centred_BxS, mask_BxS)
    return centred_BxS / jnp.sqrt(variance + (_EPSILON / half_range) ** 2)


def _minmax(scores_BxS, mask_BxS):
    """(x - min) / (max - min); equal scores give 0. Halved first: the range of large scores may overflow."""
    low, high = 0.5 * masked_min(scores_BxS, mask_BxS), 0.5 * masked_max(scores_BxS, mask_BxS)
    return (0.5 * scores_BxS - low) / jnp.where(high == low, 1.0, high - low)


def normalize_scores(
    scores_BxS: jax.Array, mask_BxS: jax.Array, *, normalization: str, statistics: Statistics | None = None
) -> jax.Array:
    """Puts the scores of a global batch on one scale.

        zscore: z = (x - mean) / sqrt(var + 1e-12)      minmax: z = (x - min) / (max - min)      none: z = x

    Never per sequence: at gamma = lambda = 1 the outcome R is one constant per solution, and centring each solution
    on its own would remove it.

    Args:
        scores_BxS: [B, S] fp32.
        mask_BxS: [B, S] bool.
        normalization: "zscore", "minmax" or "none".
        statistics: moments for the z-score; statistics that have seen nothing, and None, mean those of this batch.

    Returns:
        [B, S] fp32; values outside the mask mean nothing.

    Raises:
        WeightingError: an unknown normalisation, or statistics for one that has none.
    """
    require("normalization", normalization, lambda n: n in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
    if statistics is not None and normalization != "zscore":
        raise WeightingError(
            f"running statistics were given with normalization {normalization!r}, but only 'zscore' uses them: "
            "set normalization to 'zscore' or leave the statistics out"
        )
    if normalization == "none":
        return scores_BxS
    if normalization == "minmax":
        return _minmax(scores_BxS, mask_BxS)
    of_batch_BxS = _zscore(scores_BxS, mask_BxS)
    if statistics is None:
        return of_batch_BxS
    mean, variance = read_statistics(statistics)
    running_BxS = (scores_BxS - mean) / jnp.sqrt(variance + _EPSILON**2)
    return jnp.where(statistics.weight > 0, running_BxS, of_batch_BxS)
