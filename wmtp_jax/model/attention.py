"""Causal attention within segments: dense, blocked over queries, and over a KV cache."""

import functools

import jax
import jax.numpy as jnp

_QUERY_BLOCK = 128


def dense_attention(q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, segment_ids_BxS=None) -> jax.Array:
    """softmax(q k / sqrt(Q)) v with the whole S x S matrix, causal and within segments; softmax in fp32.

    Queries and keys are rotated, H is a multiple of K, and None means one document per row. Returns [B, S, H, Q], in
    the dtype of the queries.
    """
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
    if segment_ids_BxS is None:
        segment_ids_BxS = jnp.ones((B, S), jnp.int32)

    def in_blocks(x):
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(B, n_blocks, _QUERY_BLOCK, *x.shape[2:]), 1, 0)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def attend(block):
        q_block, segments_block, first = block
        causal = jnp.arange(S)[None, :] <= first + jnp.arange(_QUERY_BLOCK)[:, None]
        same = segments_block[:, :, None] == segment_ids_BxS[:, None, :]
        return jax.nn.dot_product_attention(q_block, k_BxSxKxQ, v_BxSxKxQ, mask=(causal & same)[:, None])

    firsts = jnp.arange(n_blocks) * _QUERY_BLOCK
    out = jax.lax.map(attend, (in_blocks(q_BxSxHxQ), in_blocks(segment_ids_BxS), firsts))
    return jnp.moveaxis(out, 0, 1).reshape(B, n_blocks * _QUERY_BLOCK, H, Q)[:, :S]


ATTENTION = {"dense": dense_attention, "blocked": blocked_attention}


def empty_cache(batch_size: int, n_slots: int, n_kv_heads: int, head_dim: int, dtype) -> dict[str, jax.Array]:
    """The KV cache of one layer, with T = n_slots: k [B, K, Q, T], v [B, K, T, Q], as the products read them."""
    return {
        "k": jnp.zeros((batch_size, n_kv_heads, head_dim, n_slots), dtype),
        "v": jnp.zeros((batch_size, n_kv_heads, n_slots, head_dim), dtype),
    }


def update_cache(cache: dict[str, jax.Array], k_BxSxKxQ, v_BxSxKxQ, first_B) -> dict[str, jax.Array]:
    """Writes keys and values of S successive tokens per row into the slots from first_B on, all of which must exist."""
    write = jax.vmap(jax.lax.dynamic_update_slice)
    zero = jnp.zeros_like(first_B)
    k_BxKxQxS = jnp.moveaxis(k_BxSxKxQ, 1, 3).astype(cache["k"].dtype)
    v_BxKxSxQ = jnp.moveaxis(v_BxSxKxQ, 1, 2).astype(cache["v"].dtype)
    return {
        "k": write(cache["k"], k_BxKxQxS, (zero, zero, first_B)),
        "v": write(cache["v"], v_BxKxSxQ, (zero, first_B, zero)),
    }


def cached_attention(q_BxSxHxQ, cache: dict[str, jax.Array], positions_BxS, n_attended: int | None = None) -> jax.Array:
    """Attention of S new tokens over a cache of T slots; a token at position p attends to the slots 0..p.

    Args:
        q_BxSxHxQ: rotated queries.
        cache: k [B, K, Q, T] and v [B, K, T, Q], as of `empty_cache`; the new tokens are in it.
        positions_BxS: int, of the queries.
        n_attended: slots that take part in the computation, more than any position; None for all.

    Returns:
        [B, S, H, Q], in the dtype of the queries.
    """
    B, S, H, Q = q_BxSxHxQ.shape
    cache = {"k": cache["k"][..., :n_attended], "v": cache["v"][:, :, :n_attended]}
    K, T = cache["v"].shape[1:3]
    q_BxKxMxQ = jnp.moveaxis(q_BxSxHxQ.reshape(B, S, K, H // K, Q), 1, 3).reshape(B, K, H // K * S, Q)
    scores = jnp.einsum("BKMQ,BKQT->BKMT", q_BxKxMxQ, cache["k"], preferred_element_type=jnp.float32)
    visible_BxSxT = jnp.arange(T) <= positions_BxS[:, :, None]
    scores = scores.reshape(B, K, H // K, S, T) * Q**-0.5
    scores = jnp.where(visible_BxSxT[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(q_BxSxHxQ.dtype).reshape(B, K, H // K * S, T)
    out_BxKxMxQ = jnp.einsum("BKMT,BKTQ->BKMQ", weights, cache["v"])
    return jnp.moveaxis(out_BxKxMxQ.reshape(B, K, H // K, S, Q), 3, 1).reshape(B, S, H, Q)
