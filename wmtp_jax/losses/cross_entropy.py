"""Cross-entropy of all heads, straight from hidden states, without ever holding all logits."""

import functools

import chex
import jax
import jax.numpy as jnp


def linear_cross_entropy(
    hidden_NxBxSxD: jax.Array,
    kernel_DxV: jax.Array,
    targets_NxBxS: jax.Array,
    coefficients_NxBxS: jax.Array,
    chunk_length: int = 128,
) -> tuple[jax.Array, jax.Array]:
    """sum_{k,b,t} coefficient * nll with nll = logsumexp(h W) - (h W)[target], per token in fp32.

    One scan over chunks of (head, positions); the batch axis inside a chunk stays whole, hence sharded as it was.
    Under differentiation the gradients of hidden states and kernel are formed in the forward pass, chunk by chunk
    (three matmuls a chunk), so no logits are kept. Coefficients and nll carry no gradient.

    Args:
        hidden_NxBxSxD: normed head states, fp32 or bf16.
        kernel_DxV: unembedding, fp32; used in the states' dtype.
        targets_NxBxS: int token ids; any valid id where the coefficient is 0.
        coefficients_NxBxS: fp32, as made by `losses.coefficients`.
        chunk_length: positions per chunk; a chunk's logits take batch * chunk_length * V * 4 bytes.

    Returns:
        loss: fp32 scalar.
        nll_NxBxS: fp32, in nats.
    """
    chex.assert_rank([hidden_NxBxSxD, kernel_DxV], [4, 2])
    chex.assert_shape([targets_NxBxS, coefficients_NxBxS], hidden_NxBxSxD.shape[:3])
    chex.assert_axis_dimension(kernel_DxV, 0, hidden_NxBxSxD.shape[3])
    loss, nll = _summed(hidden_NxBxSxD, kernel_DxV, targets_NxBxS, coefficients_NxBxS, chunk_length)
    return loss, jax.lax.stop_gradient(nll)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _summed(hidden, kernel, targets, coefficients, chunk_length):
    def body(loss, chunk):
        h_BxCxD, target_BxC, coefficient_BxC = chunk
        _, nll_BxC, _ = _chunk_nll(h_BxCxD, kernel.astype(hidden.dtype), target_BxC)
        return loss + jnp.sum(coefficient_BxC * nll_BxC), nll_BxC

    chunks = tuple(to_chunks(x, chunk_length) for x in (hidden, targets, coefficients))
    loss, nll = jax.lax.scan(body, jnp.float32(0), chunks)
    return loss, from_chunks(nll, targets.shape)


def _summed_fwd(hidden, kernel, targets, coefficients, chunk_length):
    w_DxV = kernel.astype(hidden.dtype)

    def body(carry, chunk):
        loss, dw_DxV = carry
        h_BxCxD, target_BxC, coefficient_BxC = chunk
        logits_BxCxV, nll_BxC, lse_BxC = _chunk_nll(h_BxCxD, w_DxV, target_BxC)
        is_target = target_BxC[..., None] == jnp.arange(w_DxV.shape[1])
        dlogits = coefficient_BxC[..., None] * (jnp.exp(logits_BxCxV - lse_BxC[..., None]) - is_target)
        dlogits = dlogits.astype(hidden.dtype)
        dh_BxCxD = jnp.einsum("BCV,DV->BCD", dlogits, w_DxV)
        dw_DxV += jnp.einsum("BCD,BCV->DV", h_BxCxD, dlogits, preferred_element_type=jnp.float32)
        return (loss + jnp.sum(coefficient_BxC * nll_BxC), dw_DxV), (nll_BxC, dh_BxCxD)

    chunks = tuple(to_chunks(x, chunk_length) for x in (hidden, targets, coefficients))
    (loss, dw), (nll, dh) = jax.lax.scan(body, (jnp.float32(0), jnp.zeros(kernel.shape, jnp.float32)), chunks)
    dtype_of_kernel = jnp.zeros((), kernel.dtype)
    return (loss, from_chunks(nll, targets.shape)), (from_chunks(dh, hidden.shape), dw, dtype_of_kernel)


def _summed_bwd(chunk_length, residuals, cotangents):
    dh, dw, dtype_of_kernel = residuals
    dloss, _ = cotangents
    return (dloss * dh).astype(dh.dtype), (dloss * dw).astype(dtype_of_kernel.dtype), None, None


_summed.defvjp(_summed_fwd, _summed_bwd)


def _chunk_nll(h_BxCxD, w_DxV, target_BxC):
    logits_BxCxV = jnp.einsum("BCD,DV->BCV", h_BxCxD, w_DxV, preferred_element_type=jnp.float32)
    lse_BxC = jax.nn.logsumexp(logits_BxCxV, axis=-1)
    picked_BxC = jnp.take_along_axis(logits_BxCxV, target_BxC[..., None], axis=-1)[..., 0]
    return logits_BxCxV, lse_BxC - picked_BxC, lse_BxC


def to_chunks(x_NxBxS, chunk_length: int) -> jax.Array:
    """[N, B, S, ...] -> [N * ceil(S/C), B, C, ...], zero-padded: a padded position has coefficient 0."""
    N, B, S, *rest = x_NxBxS.shape
    n_chunks = -(-S // chunk_length)
    length = -(-S // n_chunks)
    x = jnp.pad(x_NxBxS, [(0, 0), (0, 0), (0, n_chunks * length - S)] + [(0, 0)] * len(rest))
    return jnp.moveaxis(x.reshape(N, B, n_chunks, length, *rest), 2, 1).reshape(N * n_chunks, B, length, *rest)


def from_chunks(chunks, shape) -> jax.Array:
    """The inverse of `to_chunks` for an array of that shape."""
    N, B, S, *rest = shape
    x = jnp.moveaxis(chunks.reshape(N, -1, B, *chunks.shape[2:]), 1, 2)
    return x.reshape(N, B, -1, *rest)[:, :, :S]
