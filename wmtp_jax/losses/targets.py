"""Which token each head predicts where, and the coefficient of each prediction in the loss."""

import jax
import jax.numpy as jnp


def shifted(x_BxS: jax.Array, k: int) -> jax.Array:
    """x[:, t + k] at t, zero where t + k runs past the row."""
    return jnp.pad(x_BxS[:, k:], ((0, 0), (0, min(k, x_BxS.shape[1]))))


def head_targets(tokens_BxS: jax.Array, n_heads: int) -> jax.Array:
    """Target of head k at t is token t + k (k from 1): int [N, B, S], 0 past the row's end."""
    return jnp.stack([shifted(tokens_BxS, k) for k in range(1, n_heads + 1)])


def valid_targets(target_mask_BxS: jax.Array, segment_ids_BxS: jax.Array, n_heads: int) -> jax.Array:
    """Whether head k has a target at t: t + k is in the row, in t's own document, and in the target mask.

    Args:
        target_mask_BxS: bool, True on response tokens and EOS.
        segment_ids_BxS: int, equal within a document, 0 on padding.
        n_heads: N.

    Returns:
        bool [N, B, S].
    """
    same_document = (segment_ids_BxS == head_targets(segment_ids_BxS, n_heads)) & (segment_ids_BxS != 0)
    return same_document & head_targets(target_mask_BxS, n_heads)


def target_weights(weights_BxS: jax.Array, valid_NxBxS: jax.Array) -> jax.Array:
    """Weight of the token that head k predicts at t, 0 where there is none: fp32 [N, B, S].

    A weight belongs to the target token, so all heads that predict a token share it.
    """
    return jnp.where(valid_NxBxS, head_targets(weights_BxS.astype(jnp.float32), len(valid_NxBxS)), 0.0)


def coefficients(weights_NxBxS: jax.Array, head_weights_N: jax.Array, denominators_N: jax.Array) -> jax.Array:
    """a_k w[t+k] valid_k[t] / den_k, so that the loss is the plain sum of coefficient times nll.

    Args:
        weights_NxBxS: as returned by `target_weights`, for any part of the global batch.
        head_weights_N: a_k.
        denominators_N: den_k, the sum of `weights_NxBxS` over the *global* batch.

    Returns:
        fp32 [N, B, S] without gradient; 0 for a head without targets.
    """
    scale_N = jnp.where(denominators_N > 0, head_weights_N / jnp.where(denominators_N > 0, denominators_N, 1.0), 0.0)
    return jax.lax.stop_gradient(weights_NxBxS * scale_N[:, None, None])
