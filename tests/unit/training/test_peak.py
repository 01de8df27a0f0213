"""FLOPs of a step, against a count of the program that JAX traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.model import ModelConfig, MTPTransformer, init_params
from wmtp_jax.training.peak import measured_matmul_peak, step_flops


def _matmul_flops(jaxpr) -> float:
    """2 x (product of all sizes) of each dot_general, with loops counted as often as they run."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (left_contract, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * np.prod(equation.outvars[0].aval.shape) * np.prod([left[axis] for axis in left_contract])
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += times * _matmul_flops(inner)
    return total


def _config(**changes) -> ModelConfig:
    fields = dict(dim=48, n_layers=5, n_heads=6, n_kv_heads=2, vocab_size=97, n_future_tokens=3, ffn_dim=80)
    return ModelConfig(**(fields | changes))


@pytest.mark.parametrize(
    "changes", [{}, {"n_future_tokens": 1}, {"n_kv_heads": 6}, {"head_dim": 16}, {"tie_embeddings": True}]
)
def test_forward_flops_equal_the_traced_ones(changes):
    config = _config(**changes)
    params = jax.eval_shape(lambda: init_params(config))
    tokens = jax.ShapeDtypeStruct((3, 10), jnp.int32)
    forward = jax.make_jaxpr(lambda params, tokens: MTPTransformer(config).apply({"params": params}, tokens))
    assert _matmul_flops(forward(params, tokens).jaxpr) == step_flops(config, 3, 10) / 3


def test_step_flops_by_hand():
    # One layer: 2*8*8 (wq, wo) + 2*8*4 (wk, wv) + 3*8*16 = 576; two layers 1152, one head's unembedding 8*32 = 256.
    config = ModelConfig(dim=8, n_layers=2, n_heads=2, n_kv_heads=1, vocab_size=32, ffn_dim=16)
    assert step_flops(config, batch_size=3, length=5) == 6 * 1408 * 15 + 12 * 2 * 8 * 25 * 3


def test_peak_is_measured_once_and_is_a_machine_s_number():
    peak = measured_matmul_peak(jnp.float32)
    assert 1e8 < peak < 1e18
    assert measured_matmul_peak(jnp.float32) == peak
