"""How a model scores given tokens: nll and rank, chunk by chunk, for evaluation."""

import jax
import jax.numpy as jnp

from wmtp_jax.losses.chunks import chunk_logits, scan_chunks


def token_scores(
    hidden_NxBxSxD: jax.Array, kernel_DxV: jax.Array, targets_NxBxS: jax.Array, chunk_length: int = 128
) -> tuple[jax.Array, jax.Array]:
    """Loss of each target token, and its rank among the vocabulary (0 = the most likely token).

    Args:
        hidden_NxBxSxD: normed head states.
        kernel_DxV: unembedding.
        targets_NxBxS: int token ids.
        chunk_length: positions per chunk.

    Returns:
        nll_NxBxS fp32 in nats; rank_NxBxS int32, the number of tokens with a larger logit.
    """

    def body(_, chunk):
        h_BxCxD, target_BxC = chunk
        logits_BxCxV = chunk_logits(h_BxCxD, kernel_DxV)
        picked_BxCx1 = jnp.take_along_axis(logits_BxCxV, target_BxC[..., None], axis=-1)
        nll_BxC = jax.nn.logsumexp(logits_BxCxV, axis=-1) - picked_BxCx1[..., 0]
        return None, (nll_BxC, jnp.sum(logits_BxCxV > picked_BxCx1, axis=-1, dtype=jnp.int32))

    return scan_chunks(body, None, (hidden_NxBxSxD, targets_NxBxS), chunk_length)[1]
