"""Losses of the critic: fp32 scalars (sum, denominator) over the mask, divided once after accumulation."""

import chex
import jax
import jax.numpy as jnp


def value_cross_entropy(value_logits: jax.Array, targets: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Binary cross-entropy of the value, the predicted probability that the whole solution is correct, in nats.

        l = -G ln sigmoid(x) - (1 - G) ln sigmoid(-x) = max(x, 0) - G x + ln(1 + exp(-|x|))

    Value logits x [B, S] float, V = sigmoid(x); targets [B, S] float, constant returns G in [0, 1]; mask [B, S], the
    positions that are trained.
    """
    (x_BxS, g_BxS), mask_BxS = _checked([value_logits, jax.lax.stop_gradient(targets)], mask)
    return _sum_and_count(jax.nn.softplus(x_BxS) - g_BxS * x_BxS, mask_BxS)


def clipped_value_loss(
    values: jax.Array, anchor_values: jax.Array, targets: jax.Array, mask: jax.Array, *, clip: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Squared error of values that may not gain by moving far from a slow copy of the critic.

        l = 1/2 max((V - G)^2, (V' + clip(V - V', -clip, clip) - G)^2)

    Args:
        values: [B, S] float, V.
        anchor_values: [B, S] float, V' of the EMA target critic; constants.
        targets: [B, S] float, returns G; constants.
        mask: [B, S], the positions that are trained.
        clip: how far V may move from V' before its gain stops counting, > 0.

    Returns:
        (sum, denominator).

    Source: value clipping of PPO's reference implementation, see Engstrom et al. 2020 (arXiv 2005.12729), section 3.
    """
    anchor_values, targets = jax.lax.stop_gradient((anchor_values, targets))
    (v_BxS, anchor_BxS, g_BxS), mask_BxS = _checked([values, anchor_values, targets], mask)
    clipped_BxS = anchor_BxS + jnp.clip(v_BxS - anchor_BxS, -clip, clip)
    losses_BxS = 0.5 * jnp.maximum((v_BxS - g_BxS) ** 2, (clipped_BxS - g_BxS) ** 2)
    return _sum_and_count(losses_BxS, mask_BxS)


def pairwise_ranking_loss(
    correct_logits: jax.Array, incorrect_logits: jax.Array, pair_mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A correct solution of a problem should be valued above an incorrect one of the same problem; in nats.

        l = -ln sigmoid(x_correct - x_incorrect),   x the value logit before the last token

    Logits [P] float, one correct and one incorrect solution of a problem per pair; pair_mask [P], which pairs exist.

    Source: Bradley and Terry 1952; as a reward-model loss, Ouyang et al. 2022 (arXiv 2203.02155), equation 1.
    """
    chex.assert_rank([correct_logits, incorrect_logits, pair_mask], 1)
    chex.assert_type([correct_logits, incorrect_logits], float)
    chex.assert_equal_shape([correct_logits, incorrect_logits, pair_mask])
    mask_P = pair_mask != 0
    margin_P = correct_logits.astype(jnp.float32) - incorrect_logits.astype(jnp.float32)
    return _sum_and_count(jax.nn.softplus(-jnp.where(mask_P, margin_P, 0.0)), mask_P)


def _checked(arrays: list[jax.Array], mask: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """The arrays in fp32, 0 outside the mask: a NaN there must not reach the gradient through a product with 0."""
    chex.assert_rank([*arrays, mask], 2)
    chex.assert_type(arrays, float)
    chex.assert_equal_shape([*arrays, mask])
    return [jnp.where(mask != 0, x.astype(jnp.float32), 0.0) for x in arrays], mask != 0


def _sum_and_count(losses, mask) -> tuple[jax.Array, jax.Array]:
    return jnp.sum(jnp.where(mask, losses, 0.0)), jnp.sum(mask).astype(jnp.float32)
