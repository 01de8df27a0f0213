"""Loss and rank of given tokens under all heads, straight from hidden states, without ever holding all logits."""

import functools

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.losses.chunks import chunk_logits, scan_chunks
from wmtp_jax.parallel import batch_shards, constrain


def linear_cross_entropy(
    hidden_NxBxSxD: jax.Array,
    kernel_DxV: jax.Array,
    targets_NxBxS: jax.Array,
    coefficients_NxBxS: jax.Array,
    chunk_length: int = 128,
) -> tuple[jax.Array, jax.Array]:
    """sum_{k,b,t} coefficient * nll with nll = logsumexp(h W) - (h W)[target], per token in fp32.

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


def token_scores(
    hidden_NxBxSxD: jax.Array, kernel_DxV: jax.Array, targets_NxBxS: jax.Array, chunk_length: int = 128
) -> tuple[jax.Array, jax.Array]:
    """Scores of given tokens, for evaluation; arguments as of `linear_cross_entropy`.

    Returns:
        nll_NxBxS fp32 in nats; rank_NxBxS int32, the number of tokens with a larger logit.
    """

    def body(_, chunk):
        h_BxCxD, target_BxC = chunk
        logits_BxCxV, picked_BxCx1, lse_BxC = _chunk_scores(h_BxCxD, kernel_DxV, target_BxC)
        rank_BxC = jnp.sum(logits_BxCxV > picked_BxCx1, axis=-1, dtype=jnp.int32)
        return None, (lse_BxC - picked_BxCx1[..., 0], rank_BxC)

    return scan_chunks(body, None, (hidden_NxBxSxD, targets_NxBxS), chunk_length)[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _summed(hidden, kernel, targets, coefficients, chunk_length):
    def body(_, chunk):
        h_BxCxD, target_BxC = chunk
        _, picked_BxCx1, lse_BxC = _chunk_scores(h_BxCxD, kernel, target_BxC)
        return None, lse_BxC - picked_BxCx1[..., 0]

    _, nll = scan_chunks(body, None, (hidden, targets), chunk_length)
    return jnp.sum(coefficients * nll), nll


def _summed_fwd(hidden, kernel, targets, coefficients, chunk_length):
    w_DxV = kernel.astype(hidden.dtype)
    P = batch_shards(
        hidden.shape[1]
    )  # each adds up the kernel's gradient for its own rows, and they are summed once, at the end
    by_shard = lambda x: x.reshape(P, -1, *x.shape[1:])

    def body(dw_PxDxV, chunk):
        h_BxCxD, target_BxC, coefficient_BxC = chunk
        logits_BxCxV, picked_BxCx1, lse_BxC = _chunk_scores(h_BxCxD, w_DxV, target_BxC)
        nll_BxC = lse_BxC - picked_BxCx1[..., 0]
        is_target = target_BxC[..., None] == jnp.arange(w_DxV.shape[1])
        dlogits = coefficient_BxC[..., None] * (jnp.exp(logits_BxCxV - lse_BxC[..., None]) - is_target)
        dlogits = dlogits.astype(hidden.dtype)
        dh_BxCxD = jnp.einsum("BCV,DV->BCD", dlogits, w_DxV)
        added_PxDxV = jnp.einsum(
            "PBCD,PBCV->PDV", by_shard(h_BxCxD), by_shard(dlogits), preferred_element_type=jnp.float32
        )
        return constrain(dw_PxDxV + added_PxDxV, "batch", None, "vocab"), (nll_BxC, dh_BxCxD)

    zeros = constrain(jnp.zeros((P, *kernel.shape), jnp.float32), "batch", None, "vocab")
    dw_PxDxV, (nll, dh) = scan_chunks(body, zeros, (hidden, targets, coefficients), chunk_length)
    return (jnp.sum(coefficients * nll), nll), (dh, dw_PxDxV.sum(0), jnp.zeros((), kernel.dtype))


def _summed_bwd(chunk_length, residuals, cotangents):
    dh, dw, dtype_of_kernel = residuals
    dloss, _ = cotangents
    return (dloss * dh).astype(dh.dtype), (dloss * dw).astype(dtype_of_kernel.dtype), None, None


_summed.defvjp(_summed_fwd, _summed_bwd)


def _chunk_scores(h_BxCxD, kernel_DxV, target_BxC):
    """Logits, those of the targets, and the logarithm of the sum of their exponentials."""
    logits_BxCxV = chunk_logits(h_BxCxD, kernel_DxV)
    picked_BxCx1 = jnp.take_along_axis(logits_BxCxV, target_BxC[..., None], axis=-1)
    return logits_BxCxV, picked_BxCx1, jax.nn.logsumexp(logits_BxCxV, axis=-1)
