"""Rotary position embeddings in Meta's interleaved layout (Su et al. 2021, arXiv 2104.09864)."""

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.model.config import ModelConfig, RopeScaling


def _llama3_scaled(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Low frequencies divided by `factor`, high ones kept, a linear ramp between (Llama 3.1 model card)."""
    turns = scaling.original_max_position_embeddings * frequencies / (2 * np.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return (1.0 - keep) * frequencies / scaling.factor + keep * frequencies


def rope_table(positions: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of the rotation angles of integer positions [B, S]: fp32 [B, S, 1, Q/2], broadcast over heads."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = config.rope_theta**-exponents
    if config.rope_scaling is not None:
        frequencies = _llama3_scaled(frequencies, config.rope_scaling)
    angles = positions[:, :, None, None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    return jnp.cos(angles), jnp.sin(angles)


def apply_rope(x_BxSxHxQ: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates the pairs (x0, x1), (x2, x3), ... of each head in fp32; returns the input's dtype."""
    cos, sin = rope
    pairs = x_BxSxHxQ.astype(jnp.float32).reshape(*x_BxSxHxQ.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    rotated = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return rotated.reshape(x_BxSxHxQ.shape).astype(x_BxSxHxQ.dtype)
