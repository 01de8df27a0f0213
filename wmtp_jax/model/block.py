"""One LLaMA layer: attention and SwiGLU, each behind an RMS norm and a residual."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmtp_jax.model.attention import ATTENTION, cached_attention, update_cache
from wmtp_jax.model.config import ModelConfig
from wmtp_jax.model.rope import apply_rope
from wmtp_jax.parallel import constrain


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def linear(spec: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """einsum(spec, x, kernel) of one dtype, such as "BSD,DF->BSF"; reverse-mode differentiation only (no jax.jvp).

    Autodiff forms the kernel's gradient as (cotangent, x), of which XLA's CPU backend transposes the cotangent, with
    all that was fused into it, and the result back; as (x, cotangent) it transposes x, which several kernels share.
    """
    return jnp.einsum(spec, x, kernel)


def _linear_fwd(spec, x, kernel):
    return jnp.einsum(spec, x, kernel), (x, kernel)


def _linear_bwd(spec, residuals, cotangent):
    x, kernel = residuals
    inputs, output = spec.split("->")
    of_x, of_kernel = inputs.split(",")
    dx = jnp.einsum(f"{output},{of_kernel}->{of_x}", cotangent, kernel)
    return dx, jnp.einsum(f"{of_x},{output}->{of_kernel}", x, cotangent)


linear.defvjp(_linear_fwd, _linear_bwd)


def _kernel(module: nn.Module, name: str, shape, axes, fan_in: int) -> jax.Array:
    init = nn.initializers.truncated_normal(1 / math.sqrt(fan_in))
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32).astype(module.dtype)


def take_tokens(x: jax.Array, tokens_BxR: jax.Array | None) -> jax.Array:
    """The tokens of each row with the given indices, [B, S, ...] -> [B, R, ...]; None takes all as they are."""
    return x if tokens_BxR is None else x[jnp.arange(x.shape[0])[:, None], tokens_BxR]


class RMSNorm(nn.Module):
    """x / rms(x) with fp32 statistics, cast back, then scaled (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    eps: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("norm",))
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        x_fp32 = x.astype(jnp.float32)
        normed = x_fp32 * jax.lax.rsqrt(jnp.mean(x_fp32 * x_fp32, axis=-1, keepdims=True) + self.eps)
        return normed.astype(self.dtype) * scale.astype(self.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, over a sequence or over a KV cache (see `Block`)."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    implementation: str = "dense"

    @nn.compact
    def __call__(self, x_BxSxD, rope, segment_ids, positions, cache, query_positions, n_attended):
        D, H, K, Q = self.config.dim, self.config.n_heads, self.config.n_kv_heads, self.config.head_dim
        wq = _kernel(self, "wq", (D, H, Q), ("embed", "heads", "head_dim"), D)
        wk = _kernel(self, "wk", (D, K, Q), ("embed", "kv_heads", "head_dim"), D)
        wv = _kernel(self, "wv", (D, K, Q), ("embed", "kv_heads", "head_dim"), D)
        wo = _kernel(self, "wo", (H, Q, D), ("heads", "head_dim", "embed"), H * Q)
        query_rope = jax.tree.map(lambda angles: take_tokens(angles, query_positions), rope)
        q_BxSxHxQ = apply_rope(linear("BSD,DHQ->BSHQ", take_tokens(x_BxSxD, query_positions), wq), query_rope)
        k_BxSxKxQ = apply_rope(linear("BSD,DKQ->BSKQ", x_BxSxD, wk), rope)
        v_BxSxKxQ = linear("BSD,DKQ->BSKQ", x_BxSxD, wv)
        if cache is None:
            out_BxSxHxQ = ATTENTION[self.implementation](q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, segment_ids)
        else:
            cache = update_cache(cache, k_BxSxKxQ, v_BxSxKxQ, positions[:, 0])
            out_BxSxHxQ = cached_attention(q_BxSxHxQ, cache, take_tokens(positions, query_positions), n_attended)
        return linear("BSHQ,HQD->BSD", out_BxSxHxQ, wo), cache


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x) (Shazeer 2020, arXiv 2002.05202)."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxSxD):
        D, F = self.config.dim, self.config.ffn_dim
        w1 = _kernel(self, "w1", (D, F), ("embed", "mlp"), D)
        w3 = _kernel(self, "w3", (D, F), ("embed", "mlp"), D)
        w2 = _kernel(self, "w2", (F, D), ("mlp", "embed"), F)
        gate, up = linear("BSD,DF->BSF", x_BxSxD, w1), linear("BSD,DF->BSF", x_BxSxD, w3)
        return linear("BSF,FD->BSD", nn.silu(gate) * up, w2)


class Block(nn.Module):
    """One pre-norm layer: attention and feed-forward, each added to the residual stream.

    Takes x [B, S, D], the cosines and sines of `rope_table`, and over a whole sequence segment_ids [B, S] or None. Over
    a cache of `empty_cache`: positions [B, S] of the tokens, query_positions [B, R], indices of the tokens whose output
    is wanted (None for all), and n_attended as of `cached_attention`. Returns [B, S or R, D] and the new cache.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    implementation: str = "dense"

    @nn.compact
    def __call__(
        self, x_BxSxD, rope, segment_ids=None, positions=None, cache=None, query_positions=None, n_attended=None
    ):
        normed = RMSNorm(self.config.norm_eps, self.dtype, name="attention_norm")(x_BxSxD)
        attention = Attention(self.config, self.dtype, self.implementation, name="attention")
        attended, cache = attention(normed, rope, segment_ids, positions, cache, query_positions, n_attended)
        x_BxSxD = constrain(take_tokens(x_BxSxD, query_positions) + attended, "batch", None, None)
        normed = RMSNorm(self.config.norm_eps, self.dtype, name="ffn_norm")(x_BxSxD)
        x_BxSxD += FeedForward(self.config, self.dtype, name="feed_forward")(normed)
        return constrain(x_BxSxD, "batch", None, None), cache
