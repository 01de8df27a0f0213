"""How fast the machine multiplies matrices, and how many multiplications a training step needs."""

import functools
import math
import time

import jax
import jax.numpy as jnp

from wmtp_jax.model import ModelConfig


@functools.cache
def measured_matmul_peak(dtype: jnp.dtype) -> float:
    """FLOP/s of the machine in large square matmuls of `dtype`, under the precision that the model runs with.

    Measured in about half a second on one device: sizes double until one product takes 10 ms, then the fastest of
    several repetitions counts. Accelerators count with their number; simulated CPU devices share the cores.
    """
    device = jax.local_devices()[0]
    with jax.set_mesh(jax.make_mesh((), (), devices=[device])):
        flops = _measure(dtype)
    return flops * (1 if device.platform == "cpu" else jax.device_count())


def _measure(dtype: jnp.dtype) -> float:
    multiply = jax.jit(jnp.matmul)
    size, seconds = 512, 0.0
    while True:
        square = jnp.ones((size, size), dtype)
        multiply(square, square).block_until_ready()
        seconds = _seconds(multiply, square)
        if seconds > 0.01 or size >= 16384:
            break
        size *= 2
    repetitions = max(3, min(50, math.ceil(0.3 / seconds)))
    seconds = min(seconds, *(_seconds(multiply, square) for _ in range(repetitions)))
    return 2 * size**3 / seconds


def step_flops(config: ModelConfig, batch_size: int, length: int) -> float:
    """Matmul FLOPs of one training step over B rows of S positions, padding included, recomputation not.

        P     = n_layers (D H Q + 2 D K Q + H Q D + 3 D F) + N D V      matmul parameters a position passes through:
                                                                        the unembedding counts once per head
        FLOPs = 6 P B S + 12 n_layers H Q S^2 B

    A parameter costs 2 FLOPs forward and 4 backward (gradients of input and parameter); attention's two products
    q k^T and p v cost 4 H Q S^2 forward and twice that backward, counted over the whole S x S square as in PaLM
    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    n_layers counts trunk and heads.
    """
    D, H, K, Q, F = config.dim, config.n_heads, config.n_kv_heads, config.head_dim, config.ffn_dim
    per_layer = 2 * D * H * Q + 2 * D * K * Q + 3 * D * F
    parameters = config.n_layers * per_layer + config.n_future_tokens * D * config.vocab_size
    attention = 12 * config.n_layers * H * Q * length**2 * batch_size
    return float(6 * parameters * batch_size * length + attention)


def _seconds(multiply, square: jax.Array) -> float:
    start = time.perf_counter()
    multiply(square, square).block_until_ready()
    return time.perf_counter() - start
