"""Causal attention within segments: dense, blocked over queries, and over a KV cache."""

import functools

import jax
import jax.numpy as jnp

ATTENTION = ("dense", "blocked")
_QUERY_BLOCK = 128


def dense_attention(q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, segment_ids_BxS=None) -> jax.Array:
    """Softmax(q k / sqrt(Q)) v with the whole S x S matrix; softmax in fp32. Returns [B, S, H, Q]."""
    mask = None
    if segment_ids_BxS is not None:
        mask = segment_ids_BxS[:, None, :, None] == segment_ids_BxS[:, None, None, :]
    return jax.nn.dot_product_attention(q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, mask=mask, is_causal=True)


def blocked_attention(q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, segment_ids_BxS=None) -> jax.Array:
    """The same attention, one block of queries at a time: the largest temporary is [B, H, block, S].

    Each block is recomputed in the backward pass, so nothing of size S x S is ever held.
    """
    B, S, H, Q = q_BxSxHxQ.shape
    n_blocks = -(-S // _QUERY_BLOCK)
    padding = n_blocks * _QUERY_BLOCK - S
    in_blocks = lambda x: jnp.moveaxis(
        jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2)).reshape(B, n_blocks, _QUERY_BLOCK, *x.shape[2:]),
        1,
        0,
    )
    if segment_ids_BxS is None:
        segment_ids_BxS = jnp.ones((B, S), jnp.int32)
    key_index = jnp.arange(S)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def attend(q_block, segments_block, first):
        causal = key_index[None, :] <= first + jnp.arange(_QUERY_BLOCK)[:, None]
        same = segments_block[:, :, None] == segment_ids_BxS[:, None, :]
        return jax.nn.dot_product_attention(q_block, k_BxSxKxQ, v_BxSxKxQ, mask=(causal & same)[:, None])

    def body(_, block):
        return None, attend(*block)

    firsts = jnp.arange(n_blocks) * _QUERY_BLOCK
    _, out = jax.lax.scan(body, None, (in_blocks(q_BxSxHxQ), in_blocks(segment_ids_BxS), firsts))
    return jnp.moveaxis(out, 0, 1).reshape(B, n_blocks * _QUERY_BLOCK, H, Q)[:, :S]


def cached_attention(q_BxSxHxQ, k_BxTxKxQ, v_BxTxKxQ, positions_BxS) -> jax.Array:
    """Attention of S new tokens over a cache of T slots; a token at position p sees the slots 0..p."""
    visible = jnp.arange(k_BxTxKxQ.shape[1])[None, None, :] <= positions_BxS[:, :, None]
    return jax.nn.dot_product_attention(q_BxSxHxQ, k_BxTxKxQ, v_BxTxKxQ, mask=visible[:, None])
