"""Generalised advantage estimation and value targets for one response per row."""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.ranges import require, require_discounts
from wmtp_jax.weighting.states import state_mask


def td_errors(values: jax.Array, is_correct: jax.Array, target_mask: jax.Array, *, gamma: float) -> jax.Array:
    """Temporal-difference errors of the response tokens.

        delta_j = gamma * V_j - V_{j-1}   for p <= j < e,        delta_e = R - V_{e-1}

    The reward R = is_correct falls on the last response token e and ends the episode, so V_e is never read.

    Args:
        values: [B, S] float, values[b, t] = V_t, the value after reading x_0..x_t.
        is_correct: [B], the outcome R of each row's solution: 1 or 0.
        target_mask: [B, S], response tokens and EOS, one contiguous run per row. Position 0 is never a target:
            no value precedes it.
        gamma: discount per token, in [0, 1].

    Returns:
        [B, S] fp32, indexed by the target token, 0 outside the response.

    Source: Sutton 1988; Schulman et al. 2016 (arXiv 1506.02438), equation 9.
    """
    values, is_correct, target_mask = jnp.asarray(values), jnp.asarray(is_correct), jnp.asarray(target_mask)
    chex.assert_rank([values, is_correct, target_mask], [2, 1, 2])
    chex.assert_type(values, float)
    chex.assert_equal_shape([values, target_mask])
    chex.assert_equal_shape_prefix([values, is_correct], 1)
    require_discounts(gamma, 1.0)

    v_BxS = values.astype(jnp.float32)
    before_BxS = jnp.pad(v_BxS[:, :-1], ((0, 0), (1, 0)))
    mask_BxS = (target_mask != 0).at[:, 0].set(False)
    last_BxS = mask_BxS & ~jnp.pad(mask_BxS[:, 1:], ((0, 0), (0, 1)))
    after_BxS = jnp.where(last_BxS, is_correct.astype(jnp.float32)[:, None], gamma * v_BxS)
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

    with the errors of `td_errors`. At gamma = lambda = 1 the sum telescopes to A_j = R - V_{j-1}.

    Args:
        values: [B, S] float, values[b, t] = V_t, the value after reading x_0..x_t.
        is_correct: [B], the outcome R of each row's solution: 1 or 0.
        target_mask: [B, S], response tokens and EOS, one contiguous run per row.
        gamma: discount per token, in [0, 1].
        lambda_: mixing parameter in [0, 1], one number or one per row [B] (see `length_adaptive_lambda`).

    Returns:
        [B, S] fp32, indexed by the target token, 0 outside the response.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equation 16.
    """
    require_discounts(gamma, lambda_)
    delta_BxS = td_errors(values, is_correct, target_mask, gamma=gamma)
    B, _ = delta_BxS.shape
    lambda_ = jnp.asarray(lambda_, jnp.float32)
    chex.assert_rank(lambda_, {0, 1})
    decay_B = jnp.broadcast_to(gamma * lambda_, (B,))

    def body(advantage_B, delta_B):
        advantage_B = delta_B + decay_B * advantage_B
        return advantage_B, advantage_B

    _, advantages_SxB = jax.lax.scan(body, jnp.zeros_like(decay_B), delta_BxS.T, reverse=True)
    # Before the response the recursion runs on over zero errors: what it carries there belongs to no token.
    mask_BxS = (jnp.asarray(target_mask) != 0).at[:, 0].set(False)
    return jnp.where(mask_BxS, advantages_SxB.T, 0.0)


def length_adaptive_lambda(lengths: jax.Array, alpha: float) -> jax.Array:
    """Mixing parameter that keeps the reward's reach in step with the response: lambda = 1 - 1 / (alpha * length).

    Args:
        lengths: [B], response lengths in tokens.
        alpha: reach of the reward as a share of the length, > 0 (0.05 in the source).

    Returns:
        [B] fp32 in [0, 1); responses shorter than 1 / alpha get 0.

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
    """What the values of a response should have been, at the states j-1 of its tokens j.

        "lambda":       G_{j-1} = A_j + V_{j-1}
        "monte_carlo":  G_{j-1} = gamma^(e-j) * R

    Args:
        values: [B, S] float, values[b, t] = V_t; Monte Carlo returns do not read them.
        is_correct: [B], the outcome R of each row's solution: 1 or 0.
        target_mask: [B, S], response tokens and EOS, one contiguous run per row.
        returns: "monte_carlo" or "lambda".
        gamma: discount per token, in [0, 1].
        lambda_: mixing parameter of the lambda return, one number or one per row [B].

    Returns:
        (targets [B, S] fp32, mask [B, S] bool), both indexed by the state; the targets are constants (no gradient)
        and 0 outside the mask, which leaves out the last response token.

    Source: Sutton and Barto 2018, section 12.1 (lambda return) and 3.3 (discounted return).
    """
    require("returns", returns, lambda r: r in ("monte_carlo", "lambda"), "'monte_carlo' or 'lambda'")
    require_discounts(gamma, lambda_)
    values, is_correct, target_mask = jnp.asarray(values), jnp.asarray(is_correct), jnp.asarray(target_mask)
    chex.assert_rank([values, is_correct, target_mask], [2, 1, 2])
    chex.assert_equal_shape([values, target_mask])
    states_BxS = state_mask(target_mask)
    if returns == "lambda":
        advantages_BxS = token_advantages(values, is_correct, target_mask, gamma=gamma, lambda_=lambda_)
        at_states_BxS = jnp.pad(advantages_BxS[:, 1:], ((0, 0), (0, 1)))
        targets_BxS = at_states_BxS + values.astype(jnp.float32)
    else:
        after_BxS = jnp.sum(states_BxS, axis=1, keepdims=True) - jnp.cumsum(states_BxS, axis=1)
        targets_BxS = jnp.power(jnp.float32(gamma), after_BxS) * is_correct.astype(jnp.float32)[:, None]
    return jax.lax.stop_gradient(jnp.where(states_BxS, targets_BxS, 0.0)), states_BxS
