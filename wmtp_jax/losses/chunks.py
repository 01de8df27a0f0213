"""One scan over chunks of positions, so that the logits of a whole batch are never held at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def scan_chunks(body: Callable, init: Any, arrays: tuple[jax.Array, ...], chunk_length: int) -> tuple[Any, Any]:
    """`jax.lax.scan` over chunks of (head, positions); the batch axis stays whole, hence sharded as it was.

    The last chunk of a row is padded with zeros: what the body adds to the carry must not count positions whose mask
    or coefficient is 0.

    Args:
        body: (carry, chunk) -> (carry, outputs); the chunk is a tuple with the arrays' [B, C, ...], each output is
            [B, C, ...].
        init: the first carry.
        arrays: each [N, B, S, ...].
        chunk_length: largest C; chunks of a row have equal lengths.

    Returns:
        The last carry, and the outputs as [N, B, S, ...].
    """
    N, B, S = arrays[0].shape[:3]
    n_chunks = -(-S // chunk_length)
    length = -(-S // n_chunks)

    def to_chunks(x):
        rest = x.shape[3:]
        x = jnp.pad(x, [(0, 0), (0, 0), (0, n_chunks * length - S)] + [(0, 0)] * len(rest))
        return jnp.moveaxis(x.reshape(N, B, n_chunks, length, *rest), 2, 1).reshape(N * n_chunks, B, length, *rest)

    def from_chunks(chunks):
        rest = chunks.shape[3:]
        x = jnp.moveaxis(chunks.reshape(N, n_chunks, B, length, *rest), 1, 2)
        return x.reshape(N, B, n_chunks * length, *rest)[:, :, :S]

    carry, outputs = jax.lax.scan(body, init, tuple(to_chunks(x) for x in arrays))
    return carry, jax.tree.map(from_chunks, outputs)


def chunk_logits(states_BxCxD: jax.Array, kernel_DxV: jax.Array) -> jax.Array:
    """fp32 logits [B, C, V]; the product is taken in the dtype of the states."""
    kernel_DxV = kernel_DxV.astype(states_BxCxD.dtype)
    return jnp.einsum("BCD,DV->BCV", states_BxCxD, kernel_DxV, preferred_element_type=jnp.float32)
