"""The policy's own surprise at a token: three numbers of its next-token distribution."""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.losses import chunk_logits, scan_chunks

SURPRISE_FEATURES = ("log_probability", "gap", "entropy")


def token_surprise(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """How a distribution sees the token that came.

        log_probability = ln p(x)      gap = max_v ln p(v) - ln p(x) >= 0      entropy = -sum_v p(v) ln p(v)

    Logits [..., V] float that predicted the tokens [...] int -> [..., 3] fp32 in nats, in the order of
    `SURPRISE_FEATURES`, without gradient.
    """
    chex.assert_rank(logits, tokens.ndim + 1)
    chex.assert_type([logits, tokens], [float, int])
    chex.assert_equal_shape_prefix([logits, tokens], tokens.ndim)
    logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
    largest = jnp.max(logits, axis=-1)
    gap = largest - jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    # With y = logit - largest: ln p = y - ln sum e^y, and the entropy is ln sum e^y - sum y e^y / sum e^y.
    y = logits - largest[..., None]
    e = jnp.exp(y)
    total = jnp.sum(e, axis=-1)
    log_total = jnp.log(total)
    entropy = log_total - jnp.sum(jnp.where(e > 0, y * e, 0.0), axis=-1) / total
    return jnp.stack([-gap - log_total, gap, entropy], axis=-1)


def next_token_surprise(
    states_BxSxD: jax.Array, kernel_DxV: jax.Array, tokens_BxS: jax.Array, chunk_length: int = 128
) -> jax.Array:
    """The policy's surprise at each token just read, as input of the value head at that token.

    Args:
        states_BxSxD: normed states of the next-token head; position t predicts token t + 1.
        kernel_DxV: unembedding.
        tokens_BxS: the tokens read.
        chunk_length: positions per chunk of logits, of which one is held at a time.

    Returns:
        [B, S, 3] as of `token_surprise`; zeros at position 0, which nothing predicts.
    """
    states_BxSxD, kernel_DxV = jax.lax.stop_gradient((states_BxSxD, kernel_DxV))

    def body(_, chunk):
        h_BxCxD, token_BxC = chunk
        return None, token_surprise(chunk_logits(h_BxCxD, kernel_DxV), token_BxC)

    predicting_and_read = states_BxSxD[None, :, :-1], tokens_BxS[None, :, 1:]
    _, features_1xBxSx3 = scan_chunks(body, None, predicting_and_read, chunk_length)
    return jnp.pad(features_1xBxSx3[0], ((0, 0), (1, 0), (0, 0)))


def untrained_score(features: jax.Array, target_mask: jax.Array) -> jax.Array:
    """A score of correctness that no critic had to learn: minus the largest gap in the response.

    Features [B, S, 3] of `next_token_surprise` and target_mask [B, S] -> [B] fp32; 0 for an empty response.
    """
    chex.assert_rank([features, target_mask], [3, 2])
    chex.assert_equal_shape_prefix([features, target_mask], 2)
    gap_BxS = features[..., SURPRISE_FEATURES.index("gap")]
    return -jnp.max(jnp.where(target_mask != 0, gap_BxS, 0.0), axis=1)


def running_surprise(features: jax.Array, target_mask: jax.Array) -> jax.Array:
    """What a response has shown so far; a head on one position has no memory of its own.

    Features [B, S, 3] of `next_token_surprise`, read at response tokens only, and target_mask [B, S] -> [B, S, 9] fp32:
    current, mean so far, worst so far (smallest log-probability, largest gap, largest entropy); zeros before the
    response. Entry t depends on tokens up to t.
    """
    chex.assert_rank([features, target_mask], [3, 2])
    chex.assert_equal_shape_prefix([features, target_mask], 2)
    mask_BxSx1 = (target_mask != 0)[..., None]
    current_BxSx3 = jnp.where(mask_BxSx1, features.astype(jnp.float32), 0.0)
    count_BxSx1 = jnp.maximum(jnp.cumsum(mask_BxSx1, axis=1), 1)
    mean_BxSx3 = jnp.cumsum(current_BxSx3, axis=1) / count_BxSx1
    away_from_0 = jnp.array([-1.0, 1.0, 1.0])
    worst_BxSx3 = away_from_0 * jax.lax.cummax(away_from_0 * current_BxSx3, axis=1)
    return jnp.concatenate([current_BxSx3, mean_BxSx3, worst_BxSx3], axis=-1)
