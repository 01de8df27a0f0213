"""Generalised advantage estimation and value targets for one response per row.

The response is p..e. The action at token j is taken after reading x_0..x_{j-1}, so the values that are read and trained
are V_{p-1}..V_{e-1}: the last prompt position is the baseline of the first response token, and the value after the last
token is neither read nor trained.
"""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.losses import shifted
from wmtp_jax.weighting.masked import as_tokens, require


def value_positions(target_mask: jax.Array) -> jax.Array:
    """Positions whose value is read and trained: t is one when token t + 1 is a target. [B, S] -> [B, S] bool."""
    chex.assert_rank(target_mask, 2)
    return shifted(target_mask != 0, 1)


def before_last_token(values: jax.Array, target_mask: jax.Array) -> jax.Array:
    """The value before the last response token, V_{e-1}: the critic's verdict on the whole solution.

    Values or value logits [B, S], target_mask [B, S] -> [B], of the dtype of the values; 0 for a row without targets.
    """
    chex.assert_rank([values, target_mask], 2)
    chex.assert_equal_shape([values, target_mask])
    last_BxS = _last_of_run(value_positions(target_mask))
    return jnp.sum(jnp.where(last_BxS, values, jnp.zeros_like(values)), axis=1)


def td_errors(values: jax.Array, is_correct: jax.Array, target_mask: jax.Array, *, gamma: float) -> jax.Array:
    """Temporal-difference errors of the response tokens; the outcome R falls on the last one and ends the episode.

        delta_j = gamma * V_j - V_{j-1}   for p <= j < e,        delta_e = R - V_{e-1}

    Args:
        values: [B, S] float, values[b, t] = V_t, the value after reading x_0..x_t.
        is_correct: [B], the outcome R of each row's solution: 1 or 0, or a probability.
        target_mask: [B, S], response tokens and EOS, one contiguous run per row. Position 0 is never a target:
            no value precedes it.
        gamma: discount per token, in [0, 1].

    Returns:
        [B, S] fp32, indexed by the target token, 0 outside the response.

    Raises:
        WeightingError: a discount out of its range.

    Source: Sutton 1988; Schulman et al. 2016 (arXiv 1506.02438), equation 9.
    """
    v_BxS, mask_BxS = as_tokens(values, target_mask)
    is_correct = jnp.asarray(is_correct, jnp.float32)
    chex.assert_shape(is_correct, v_BxS.shape[:1])
    _require_discounts(gamma)
    mask_BxS = mask_BxS.at[:, 0].set(False)
    before_BxS = jnp.pad(v_BxS[:, :-1], ((0, 0), (1, 0)))
    after_BxS = jnp.where(_last_of_run(mask_BxS), is_correct[:, None], gamma * v_BxS)
    return jnp.where(mask_BxS, after_BxS - before_BxS, 0.0)


def token_advantages(
    values: jax.Array,
    is_correct: jax.Array,
    target_mask: jax.Array,
    *,
    gamma: float,
    lambda_: float | jax.Array,
) -> jax.Array:
    """Generalised advantage estimates of the response tokens.

        A_j = delta_j + gamma * lambda * A_{j+1}   for p <= j <= e,        A_{e+1} = 0

    Arguments, errors and result are those of `td_errors`; lambda_ is a mixing parameter in [0, 1], one number or one
    per row [B] (see `length_adaptive_lambda`). At gamma = lambda = 1 the sum telescopes to A_j = R - V_{j-1}.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equation 16.
    """
    _require_discounts(gamma, lambda_)
    delta_BxS = td_errors(values, is_correct, target_mask, gamma=gamma)
    lambda_ = jnp.asarray(lambda_, jnp.float32)
    chex.assert_rank(lambda_, {0, 1})
    decay_B = jnp.broadcast_to(gamma * lambda_, delta_BxS.shape[:1])

    def body(advantage_B, delta_B):
        advantage_B = delta_B + decay_B * advantage_B
        return advantage_B, advantage_B

    _, advantages_SxB = jax.lax.scan(body, jnp.zeros_like(decay_B), delta_BxS.T, reverse=True)
    # Before the response the recursion continues over zero errors: what it carries there belongs to no token.
    mask_BxS = (jnp.asarray(target_mask) != 0).at[:, 0].set(False)
    return jnp.where(mask_BxS, advantages_SxB.T, 0.0)


def length_adaptive_lambda(lengths: jax.Array, alpha: float) -> jax.Array:
    """Mixing parameter with which the reward reaches equally far in short and long responses.

        lambda = 1 - 1 / (alpha * length)

    Lengths [B] in tokens; alpha > 0, the reach of the reward as a share of the length (0.05 in the source) -> [B] fp32
    in [0, 1); responses shorter than 1 / alpha get 0.

    Source: Yuan et al. 2025, VAPO (arXiv 2504.05118), length-adaptive GAE.
    """
    lengths = jnp.asarray(lengths)
    chex.assert_rank(lengths, 1)
    require("alpha", alpha, lambda a: a > 0, "a positive share of the length (0.05 is usual)")
    return jnp.maximum(1.0 - 1.0 / (alpha * jnp.maximum(lengths.astype(jnp.float32), 1.0)), 0.0)


def value_targets(
    values: jax.Array,
    is_correct: jax.Array,
    target_mask: jax.Array,
    *,
    returns: str,
    gamma: float,
    lambda_: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Returns G that the values of a response are trained towards, at the positions j - 1 before its tokens j.

        "lambda":       G_{j-1} = A_j + V_{j-1}
        "monte_carlo":  G_{j-1} = gamma^(e-j) * R

    Arguments and errors are those of `token_advantages`; "lambda" alone reads the values.

    Returns:
        (targets [B, S] fp32 without gradient, `value_positions` [B, S] bool); the targets are 0 at other positions.

    Source: Sutton and Barto 2018, section 12.1 (lambda return) and 3.3 (discounted return).
    """
    require("returns", returns, lambda r: r in ("monte_carlo", "lambda"), "'monte_carlo' or 'lambda'")
    _require_discounts(gamma, lambda_)
    v_BxS, mask_BxS = as_tokens(values, target_mask)
    value_positions_BxS = value_positions(mask_BxS)
    if returns == "lambda":
        advantages_BxS = token_advantages(values, is_correct, target_mask, gamma=gamma, lambda_=lambda_)
        targets_BxS = shifted(advantages_BxS, 1) + v_BxS
    else:
        n_after_BxS = jnp.sum(value_positions_BxS, axis=1, keepdims=True) - jnp.cumsum(value_positions_BxS, axis=1)
        targets_BxS = jnp.power(jnp.float32(gamma), n_after_BxS) * jnp.asarray(is_correct, jnp.float32)[:, None]
    return jax.lax.stop_gradient(jnp.where(value_positions_BxS, targets_BxS, 0.0)), value_positions_BxS


def _last_of_run(mask_BxS: jax.Array) -> jax.Array:
    return mask_BxS & ~shifted(mask_BxS, 1)


def _require_discounts(gamma, lambda_=1.0) -> None:
    require("gamma", gamma, lambda g: 0 <= g <= 1, "a discount from 0 to 1 (1.0 when values are probabilities)")
    require("lambda_", lambda_, lambda mixing: 0 <= mixing <= 1, "a mixing parameter from 0 to 1 (0.95 is usual)")
