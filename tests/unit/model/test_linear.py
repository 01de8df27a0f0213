"""`linear` is the einsum, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.model.block import linear

SHAPES = {"B": 2, "S": 37, "D": 24, "H": 4, "K": 2, "Q": 6, "F": 50}
SPECS = ["BSD,DHQ->BSHQ", "BSD,DKQ->BSKQ", "BSHQ,HQD->BSD", "BSD,DF->BSF", "BSF,FD->BSD"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("spec", SPECS)
def test_value_and_gradients_are_those_of_einsum(spec, dtype):
    of_x, of_kernel = spec.split("->")[0].split(",")
    keys = jax.random.split(jax.random.key(0), 3)
    draw = lambda key, names: jax.random.normal(key, [SHAPES[name] for name in names], dtype)
    x, kernel, cotangent = draw(keys[0], of_x), draw(keys[1], of_kernel), draw(keys[2], spec.split("->")[1])
    value, backward = jax.vjp(lambda x, kernel: linear(spec, x, kernel), x, kernel)
    expected, expected_backward = jax.vjp(lambda x, kernel: jnp.einsum(spec, x, kernel), x, kernel)
    relative = 1e-5 if dtype == jnp.float32 else 2e-2
    for ours, theirs in zip((value, *backward(cotangent)), (expected, *expected_backward(cotangent)), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
        np.testing.assert_allclose(ours, theirs, atol=relative * np.abs(theirs).max())
