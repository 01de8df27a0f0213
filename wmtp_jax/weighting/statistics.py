"""Running first and second moments of the token scores: a z-score that does not move with every batch."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.masked import masked_mean
from wmtp_jax.weighting.ranges import require


class Statistics(NamedTuple):
    """Exponential moving averages; all fp32 scalars, part of the train state.

    Attributes:
        first_moment: average of the batches' mean score.
        second_moment: average of the batches' mean squared score.
        weight: the same average of the constant 1: 0 before the first update, then 1 - decay^n. Dividing by it
            removes the bias towards the zeros the averages started from.
    """

    first_moment: jax.Array
    second_moment: jax.Array
    weight: jax.Array


def init_statistics() -> Statistics:
    """Statistics that have seen nothing."""
    return Statistics(*(jnp.zeros((), jnp.float32) for _ in Statistics._fields))


def read_statistics(statistics: Statistics) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the scores seen so far (0 and 0 when nothing was seen).

        mean = m1 / w,     var = max(m2 / w - mean^2, 0),     w = 1 - decay^n

    Returns:
        (mean, variance), fp32 scalars.

    Source: bias correction as in Kingma and Ba 2015 (arXiv 1412.6980), section 3.
    """
    weight = jnp.where(statistics.weight > 0, statistics.weight, 1.0)
    mean = statistics.first_moment / weight
    return mean, jnp.maximum(statistics.second_moment / weight - mean * mean, 0.0)


def update_statistics(statistics: Statistics, scores: jax.Array, mask: jax.Array, *, decay: float) -> Statistics:
    """Takes in one global batch: m <- decay * m + (1 - decay) * moment of the batch.

    Weights of a step are computed from the statistics as they were before the step's own update. A batch without
    mask tokens changes nothing.

    Args:
        statistics: before the update.
        scores: [B, S] float, the scores of the whole global batch.
        mask: [B, S], the tokens that count.
        decay: in [0, 1).

    Returns:
        The statistics after the update; they carry no gradient.
    """
    scores, mask = jnp.asarray(scores), jnp.asarray(mask) != 0
    chex.assert_rank([scores, mask], 2)
    chex.assert_type(scores, float)
    chex.assert_equal_shape([scores, mask])
    require("decay", decay, lambda d: 0 <= d < 1, "a number from 0 (the last batch only) to below 1")
    scores = scores.astype(jnp.float32)
    batch = Statistics(masked_mean(scores, mask), masked_mean(scores * scores, mask), jnp.float32(1.0))
    moved = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, statistics, batch)
    return jax.lax.stop_gradient(jax.tree.map(lambda old, new: jnp.where(jnp.any(mask), new, old), statistics, moved))
