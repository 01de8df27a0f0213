"""Which values belong to a response: the states before its tokens, and the last of them.

The response is p..e. The action at token j is taken in state j-1, so the states are p-1..e-1: the last prompt
position is the baseline of the first response token, and the value after the last token is neither read nor trained.
"""

import chex
import jax
import jax.numpy as jnp


def state_mask(target_mask: jax.Array) -> jax.Array:
    """Marks the states whose values are read and trained: position t is one when token t+1 is a target.

    Args:
        target_mask: [B, S], response tokens and EOS.

    Returns:
        [B, S] bool.
    """
    chex.assert_rank(target_mask, 2)
    return jnp.pad(target_mask[:, 1:] != 0, ((0, 0), (0, 1)))


def before_last_token(values: jax.Array, target_mask: jax.Array) -> jax.Array:
    """The value before the last response token, V_{e-1}: what the critic says of the whole solution.

    Args:
        values: [B, S], values or value logits, values[b, t] after reading x_0..x_t.
        target_mask: [B, S], one contiguous response per row; a row without targets gets 0.

    Returns:
        [B], of the dtype of `values`.
    """
    chex.assert_rank([values, target_mask], 2)
    chex.assert_equal_shape([values, target_mask])
    states_BxS = state_mask(target_mask)
    last_BxS = states_BxS & ~jnp.pad(states_BxS[:, 1:], ((0, 0), (0, 1)))
    return jnp.sum(jnp.where(last_BxS, values, jnp.zeros_like(values)), axis=1)
