"""Token weights from scores: normalise, softmax, entropy floor, clip."""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.clipping import clip_to_mean_one
from wmtp_jax.weighting.entropy import mix_to_entropy_floor
from wmtp_jax.weighting.masked import masked_max, masked_mean
from wmtp_jax.weighting.normalization import normalize_scores
from wmtp_jax.weighting.ranges import require, require_clip
from wmtp_jax.weighting.statistics import Statistics

# Stands for log 0: far below every logarithm that matters, and still finite after additions.
_LOG_ZERO = -1e38


def log_softmax_weights(logits_BxS: jax.Array, mask_BxS: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """Step 2: log w with w = T * softmax(z / temperature) over the T mask tokens, so that mean(w) = 1.

    Equal logits give exactly 0, that is weights of exactly 1.
    """
    relative_BxS = (logits_BxS - masked_max(logits_BxS, mask_BxS)) / temperature
    relative_BxS = jnp.where(mask_BxS, jnp.maximum(relative_BxS, _LOG_ZERO), 0.0)
    mean = masked_mean(jnp.exp(relative_BxS), mask_BxS)
    return relative_BxS - jnp.log(jnp.where(jnp.any(mask_BxS), mean, 1.0))


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

        1. z = normalised scores                                   `normalize_scores`
        2. w = T * softmax(z / temperature)                        `log_softmax_weights`
        3. p' = (1 - e) p + e / T, smallest e with H / ln T >= floor     `mix_to_entropy_floor`
        4. w = clip(c w, min, max) with the c for which mean(w) = 1      `clip_to_mean_one`

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
    scores, mask_BxS = jnp.asarray(scores), jnp.asarray(mask) != 0
    chex.assert_rank([scores, mask_BxS], 2)
    chex.assert_type(scores, float)
    chex.assert_equal_shape([scores, mask_BxS])
    require("temperature", temperature, lambda t: t > 0, "a positive number (1.0 is usual, larger is more even)")
    require("entropy_floor", entropy_floor, lambda f: 0 <= f <= 1, "a share of the largest entropy, from 0 to 1")
    require_clip(clip)

    scores_BxS = jnp.where(mask_BxS, jax.lax.stop_gradient(scores).astype(jnp.float32), 0.0)
    z_BxS = normalize_scores(scores_BxS, mask_BxS, normalization=normalization, statistics=statistics)
    log_weights_BxS = log_softmax_weights(z_BxS, mask_BxS, temperature=temperature)
    if entropy_floor is not None:
        log_weights_BxS = mix_to_entropy_floor(log_weights_BxS, mask_BxS, floor=entropy_floor)
    weights_BxS = jnp.exp(log_weights_BxS) if clip is None else clip_to_mean_one(log_weights_BxS, mask_BxS, clip=clip)
    return jax.lax.stop_gradient(jnp.where(mask_BxS, weights_BxS, 0.0))
