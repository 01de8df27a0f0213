"""How far the policy has moved from the reference."""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.states import state_mask


def kl_divergence(
    policy_logits: jax.Array, reference_logits: jax.Array, target_mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """KL(policy || reference) of the next-token distributions, at the states before the target tokens.

        KL_{j-1} = sum_v p(v) (ln p(v) - ln q(v))

    Args:
        policy_logits: [B, S, V] float, next-token head; logits[b, t] predict token t+1.
        reference_logits: [B, S, V] float.
        target_mask: [B, S], the target tokens.

    Returns:
        (sum, denominator): fp32 scalars, the sum in nats over all states and their number, to be divided once after
        the sums of all batches are added.
    """
    chex.assert_rank([policy_logits, reference_logits, target_mask], [3, 3, 2])
    chex.assert_type([policy_logits, reference_logits], float)
    chex.assert_equal_shape([policy_logits, reference_logits])
    chex.assert_equal_shape_prefix([policy_logits, target_mask], 2)
    log_p_BxSxV = jax.nn.log_softmax(policy_logits.astype(jnp.float32))
    log_q_BxSxV = jax.nn.log_softmax(reference_logits.astype(jnp.float32))
    p_BxSxV = jnp.exp(log_p_BxSxV)
    kl_BxS = jnp.sum(jnp.where(p_BxSxV > 0, p_BxSxV * (log_p_BxSxV - log_q_BxSxV), 0.0), axis=-1)
    states_BxS = state_mask(target_mask)
    return jnp.sum(jnp.where(states_BxS, kl_BxS, 0.0)), jnp.sum(states_BxS).astype(jnp.float32)
