"""Step 4 of the token weights: bounds that keep the mean."""

import jax
import jax.numpy as jnp

from wmtp_jax.weighting.bisection import bisect
from wmtp_jax.weighting.masked import masked_max, masked_mean, masked_min

_TOLERANCE = 1e-6  # in log c: one part in a million of every weight, before the interpolation below


def clip_to_mean_one(log_weights_BxS: jax.Array, mask_BxS: jax.Array, *, clip: tuple[float, float]) -> jax.Array:
    """Clips weights of mean 1 and rescales what is not clipped, so that bounds and mean hold together.

        w' = clip(c w, min, max)   with the c for which mean(w') = 1

    The mean rises with c from min < 1 to max > 1, so the c exists; it is found in log c by bisection. In logarithms
    weights of any ratio take part (exp would underflow). Between the two ends of the last bracket the weights are
    interpolated, which keeps the bounds and the order of the weights and puts the mean on 1 even where fp32 cannot
    resolve log c. Weights that are within the bounds are returned as they are.

    Args:
        log_weights_BxS: [B, S] fp32, logarithms of weights of mean 1.
        mask_BxS: [B, S] bool.
        clip: (min, max) with 0 <= min < 1 < max.

    Returns:
        [B, S] fp32 weights; values outside the mask mean nothing.
    """
    low, high = clip
    smallest, largest = masked_min(log_weights_BxS, mask_BxS), masked_max(log_weights_BxS, mask_BxS)
    clipped = lambda log_c: jnp.clip(jnp.exp(log_c + log_weights_BxS), low, high)
    excess = lambda log_c: masked_mean(clipped(log_c) - 1.0, mask_BxS)

    def solve(_):
        # At -largest every weight is at most 1; at log(high) - smallest every weight is at its upper bound.
        below, above = bisect(
            lambda log_c: excess(log_c) < 0.0, -largest, jnp.log(high) - smallest, tolerance=_TOLERANCE
        )
        missing, surplus = -excess(below), excess(above)
        share = jnp.clip(missing / jnp.maximum(missing + surplus, jnp.finfo(jnp.float32).tiny), 0.0, 1.0)
        return clipped(below) + share * (clipped(above) - clipped(below))

    inside = (jnp.exp(smallest) >= low) & (jnp.exp(largest) <= high)
    return jax.lax.cond(inside, jnp.exp, solve, log_weights_BxS)
