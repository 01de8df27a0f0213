"""linear_cross_entropy against the dense formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.losses import linear_cross_entropy, token_scores


def random_case(n, b, s, d, v, seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 4)
    hidden = jax.random.normal(keys[0], (n, b, s, d), dtype)
    kernel = jax.random.normal(keys[1], (d, v)) / np.sqrt(d)
    targets = jax.random.randint(keys[2], (n, b, s), 0, v)
    coefficients = jax.random.uniform(keys[3], (n, b, s)) * (jax.random.uniform(keys[3], (n, b, s)) < 0.6)
    return hidden, kernel, targets, coefficients


def dense_loss_float64(hidden, kernel, targets, coefficients):
    """The definition, in NumPy float64, with its gradients."""
    h, w, c = (np.asarray(x, np.float64) for x in (hidden, kernel, coefficients))
    logits = h @ w
    largest = logits.max(-1, keepdims=True)
    lse = np.log(np.exp(logits - largest).sum(-1)) + largest[..., 0]
    one_hot = np.eye(w.shape[1])[np.asarray(targets)]
    nll = lse - (logits * one_hot).sum(-1)
    dlogits = c[..., None] * (np.exp(logits - lse[..., None]) - one_hot)
    return (c * nll).sum(), nll, dlogits @ w.T, np.einsum("nbsd,nbsv->dv", h, dlogits)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 41), st.integers(2, 67), st.integers(1, 50), st.integers(0, 99)
)
def test_agrees_with_float64_for_any_shape_and_chunk(n, b, s, v, chunk_length, seed):
    case = random_case(n, b, s, 6, v, seed)
    loss, nll, dh, dw = dense_loss_float64(*case)
    gradient = jax.value_and_grad(linear_cross_entropy, argnums=(0, 1), has_aux=True)
    (our_loss, our_nll), (our_dh, our_dw) = gradient(*case, chunk_length)
    np.testing.assert_allclose(our_loss, loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(our_nll, nll, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(our_dh, dh, atol=2e-6)
    np.testing.assert_allclose(our_dw, dw, atol=2e-5)


def test_long_odd_sequence_in_chunks():
    case = random_case(4, 2, 701, 24, 1009)
    loss, nll, dh, dw = dense_loss_float64(*case)
    (our_loss, our_nll), (our_dh, our_dw) = jax.jit(
        jax.value_and_grad(linear_cross_entropy, argnums=(0, 1), has_aux=True), static_argnums=4
    )(*case, 128)
    np.testing.assert_allclose(our_loss, loss, rtol=1e-5)
    np.testing.assert_allclose(our_nll, nll, atol=1e-5)
    np.testing.assert_allclose(our_dh, dh, atol=2e-6)
    np.testing.assert_allclose(our_dw, dw, atol=1e-4 * np.abs(dw).max())


def test_the_undifferentiated_loss_is_the_differentiated_one():
    case = random_case(2, 3, 20, 8, 31)
    (with_gradient, nll_with), _ = jax.value_and_grad(linear_cross_entropy, has_aux=True)(*case, 7)
    plain, nll = linear_cross_entropy(*case, 7)
    np.testing.assert_allclose(plain, with_gradient, rtol=1e-6)
    np.testing.assert_allclose(nll, nll_with, rtol=1e-6)


def test_weights_and_nll_carry_no_gradient():
    hidden, kernel, targets, coefficients = random_case(2, 2, 9, 8, 31)
    to_coefficients = jax.grad(lambda c: linear_cross_entropy(hidden, kernel, targets, c)[0])(coefficients)
    through_nll = jax.grad(lambda h: linear_cross_entropy(h, kernel, targets, coefficients)[1].sum())(hidden)
    assert not np.any(to_coefficients)
    assert not np.any(through_nll)


def test_scales_with_the_cotangent():
    hidden, kernel, targets, coefficients = random_case(1, 2, 9, 8, 31)
    once = jax.grad(lambda w: linear_cross_entropy(hidden, w, targets, coefficients)[0])(kernel)
    thrice = jax.grad(lambda w: 3 * linear_cross_entropy(hidden, w, targets, coefficients)[0])(kernel)
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)


def test_bf16_states_keep_an_fp32_loss_and_kernel_gradient():
    hidden, kernel, targets, coefficients = random_case(2, 2, 64, 32, 301, dtype=jnp.bfloat16)
    (loss, nll), (dh, dw) = jax.value_and_grad(linear_cross_entropy, argnums=(0, 1), has_aux=True)(
        hidden, kernel, targets, coefficients
    )
    assert (loss.dtype, nll.dtype, dh.dtype, dw.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16, jnp.float32)
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    expected, _, _, expected_dw = dense_loss_float64(hidden.astype(jnp.float32), rounded, targets, coefficients)
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    np.testing.assert_allclose(dw, expected_dw, atol=0.02 * np.abs(expected_dw).max())


def test_no_array_of_all_logits_is_ever_made():
    case = random_case(4, 2, 256, 8, 997)
    program = jax.make_jaxpr(jax.grad(lambda *case: linear_cross_entropy(*case, 32)[0], argnums=(0, 1)))(*case)

    def largest(jaxpr):
        sizes = [int(np.prod(var.aval.shape)) for eqn in jaxpr.eqns for var in eqn.outvars]
        inner = [largest(sub) for eqn in jaxpr.eqns for sub in jax.tree.leaves(eqn.params) if hasattr(sub, "eqns")]
        return max(sizes + inner, default=0)

    assert largest(program.jaxpr) <= 2 * 32 * 997


def test_wrong_shapes_are_refused():
    hidden, kernel, targets, coefficients = random_case(2, 2, 9, 8, 31)
    with pytest.raises(AssertionError):
        linear_cross_entropy(hidden, kernel, targets[:, :, :-1], coefficients)
    with pytest.raises(AssertionError):
        linear_cross_entropy(hidden, kernel[:-1], targets, coefficients)


def test_token_scores_rank_and_nll():
    hidden, kernel, targets, coefficients = random_case(2, 3, 37, 8, 53)
    _, nll, _, _ = dense_loss_float64(hidden, kernel, targets, coefficients)
    logits = np.asarray(hidden, np.float64) @ np.asarray(kernel, np.float64)
    rank = (logits > np.take_along_axis(logits, np.asarray(targets)[..., None], -1)).sum(-1)
    our_nll, our_rank = token_scores(hidden, kernel, targets, chunk_length=10)
    np.testing.assert_allclose(our_nll, nll, atol=1e-5)
    np.testing.assert_array_equal(our_rank, rank)
