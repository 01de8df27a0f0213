"""One LLaMA layer: attention and SwiGLU, each behind an RMS norm and a residual."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmtp_jax.model.attention import blocked_attention, cached_attention, dense_attention
from wmtp_jax.model.config import ModelConfig
from wmtp_jax.model.rope import apply_rope


def _kernel(module: nn.Module, name: str, shape, axes, fan_in: int) -> jax.Array:
    init = nn.initializers.truncated_normal(1 / math.sqrt(fan_in))
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32).astype(module.dtype)


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
    """Grouped-query attention with rotary positions. [B, S, D] -> [B, S, D], and the cache when one is given."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    implementation: str = "dense"

    @nn.compact
    def __call__(self, x_BxSxD, rope, segment_ids=None, positions=None, cache=None, layer=None):
        D, H, K, Q = self.config.dim, self.config.n_heads, self.config.n_kv_heads, self.config.head_dim
        wq = _kernel(self, "wq", (D, H, Q), ("embed", "heads", "head_dim"), D)
        wk = _kernel(self, "wk", (D, K, Q), ("embed", "kv_heads", "head_dim"), D)
        wv = _kernel(self, "wv", (D, K, Q), ("embed", "kv_heads", "head_dim"), D)
        wo = _kernel(self, "wo", (H, Q, D), ("heads", "head_dim", "embed"), H * Q)
        q_BxSxHxQ = apply_rope(jnp.einsum("BSD,DHQ->BSHQ", x_BxSxD, wq), rope)
        k_BxSxKxQ = apply_rope(jnp.einsum("BSD,DKQ->BSKQ", x_BxSxD, wk), rope)
        v_BxSxKxQ = jnp.einsum("BSD,DKQ->BSKQ", x_BxSxD, wv)
        if cache is None:
            attend = blocked_attention if self.implementation == "blocked" else dense_attention
            out_BxSxHxQ = attend(q_BxSxHxQ, k_BxSxKxQ, v_BxSxKxQ, segment_ids)
        else:
            rows = jnp.arange(x_BxSxD.shape[0])[:, None]
            cache = {
                "k": cache["k"].at[layer, rows, positions].set(k_BxSxKxQ.astype(cache["k"].dtype), mode="drop"),
                "v": cache["v"].at[layer, rows, positions].set(v_BxSxKxQ.astype(cache["v"].dtype), mode="drop"),
            }
            slots = lambda name: jax.lax.dynamic_index_in_dim(cache[name], layer, keepdims=False).astype(self.dtype)
            out_BxSxHxQ = cached_attention(q_BxSxHxQ, slots("k"), slots("v"), positions)
        return jnp.einsum("BSHQ,HQD->BSD", out_BxSxHxQ, wo), cache


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
        return (nn.silu(x_BxSxD @ w1) * (x_BxSxD @ w3)) @ w2


class Block(nn.Module):
    """One pre-norm layer. Returns the new hidden states and the cache (None without one)."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    implementation: str = "dense"

    def setup(self):
        self.attention = Attention(self.config, self.dtype, self.implementation)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.attention_norm = RMSNorm(self.config.norm_eps, self.dtype)
        self.ffn_norm = RMSNorm(self.config.norm_eps, self.dtype)

    def __call__(self, x_BxSxD, rope, segment_ids=None, positions=None, cache=None, layer=None):
        attended, cache = self.attention(self.attention_norm(x_BxSxD), rope, segment_ids, positions, cache, layer)
        x_BxSxD = x_BxSxD + attended
        return x_BxSxD + self.feed_forward(self.ffn_norm(x_BxSxD)), cache
