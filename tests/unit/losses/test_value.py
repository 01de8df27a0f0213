"""Losses of the critic: by hand, against float64, torch and PPO's equation, and what must not leak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.losses.value import clipped_value_loss, pairwise_ranking_loss, value_cross_entropy

MASK = np.array([[1, 1, 0], [0, 1, 1]], bool)
LOGITS = np.array([[0.0, 2.0, 50.0], [np.nan, -3.0, 100.0]], np.float32)
TARGETS = np.array([[1.0, 0.25, 0.0], [np.nan, 1.0, 0.0]], np.float32)


def test_cross_entropy_by_hand():
    total, count = jax.jit(value_cross_entropy)(LOGITS, TARGETS, MASK)
    soft = lambda x: np.log1p(np.exp(x))
    # ln 2; .25 and .75 at logit 2; a miss at -3; a certain miss at 100, where exp would overflow.
    expected = np.log(2) + 0.25 * soft(-2.0) + 0.75 * soft(2.0) + soft(3.0) + 100.0
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert count == 4


def test_cross_entropy_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed for this Python")
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 4, (5, 7)).astype(np.float32), rng.random((5, 7)).astype(np.float32)
    mask = rng.random((5, 7)) < 0.5
    x = torch.tensor(logits, requires_grad=True)
    peer = torch.nn.functional.binary_cross_entropy_with_logits(x, torch.tensor(targets), reduction="none")
    peer = peer[torch.tensor(mask)].sum()
    peer.backward()
    value, gradient = jax.value_and_grad(lambda z: value_cross_entropy(z, targets, mask)[0])(jnp.asarray(logits))
    np.testing.assert_allclose(value, peer.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)


def test_gradient_of_cross_entropy_is_value_less_target():
    gradient = jax.grad(lambda x: value_cross_entropy(x, TARGETS, MASK)[0])(jnp.asarray(LOGITS))
    expected = np.where(MASK, 1 / (1 + np.exp(-LOGITS.astype(np.float64))) - TARGETS, 0.0)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "anchor", "target", "expected", "slope"),
    [
        (0.6, 0.5, 1.0, 0.08, -0.4),  # within the clip: plain squared error
        (0.9, 0.5, 1.0, 0.045, 0.0),  # moved past the clip towards the target: no further gain
        (0.1, 0.5, 1.0, 0.405, -0.9),  # moved away from the target: the full error
        (0.5, 0.5, 0.5, 0.0, 0.0),
    ],
)
def test_clipped_loss_by_hand(value, anchor, target, expected, slope):
    one = lambda x: jnp.full((1, 1), x, jnp.float32)
    loss = lambda v: clipped_value_loss(one(1.0) * v, one(anchor), one(target), one(1.0), clip=0.2)
    total, gradient = jax.value_and_grad(lambda v: loss(v)[0])(value)
    np.testing.assert_allclose((total, gradient), (expected, slope), atol=1e-6)


def test_clipped_loss_agrees_with_a_float64_loop():
    rng = np.random.default_rng(1)
    values, anchors, targets = rng.random((3, 6, 9)).astype(np.float32)
    mask = rng.random((6, 9)) < 0.7
    expected = 0.0
    for v, a, g in zip(*(x[mask].astype(np.float64) for x in (values, anchors, targets)), strict=True):
        expected += 0.5 * max((v - g) ** 2, (min(max(v, a - 0.2), a + 0.2) - g) ** 2)
    total, count = clipped_value_loss(values, anchors, targets, mask)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert count == mask.sum()


def test_anchor_and_targets_are_constants():
    ones = jnp.ones((2, 3))
    gradients = jax.grad(lambda a, g: clipped_value_loss(0.5 * ones, a, g, MASK)[0], argnums=(0, 1))(0.2 * ones, ones)
    gradients += (jax.grad(lambda g: value_cross_entropy(ones, g, MASK)[0])(ones),)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_what_lies_outside_the_mask_reaches_neither_loss_nor_gradient():
    values = np.where(MASK, 0.5, np.nan).astype(np.float32)
    for loss in (
        lambda v: value_cross_entropy(v, values, MASK)[0],
        lambda v: clipped_value_loss(v, values, values, MASK)[0],
        lambda v: pairwise_ranking_loss(v[0], jnp.ones(3), MASK[0])[0],
    ):
        total, gradient = jax.value_and_grad(loss)(jnp.asarray(values))
        assert np.isfinite(total)
        assert np.all(np.isfinite(gradient))
        np.testing.assert_array_equal(gradient[~MASK], 0.0)


def test_ranking_by_hand():
    total, count = pairwise_ranking_loss(np.array([2.0, 0.0, 9.0]), np.array([1.0, 0.0, -9.0]), np.array([1, 1, 0]))
    np.testing.assert_allclose(total, np.log1p(np.exp(-1.0)) + np.log(2), rtol=1e-6)
    assert count == 2


def test_ranking_depends_on_the_difference_alone_and_pulls_the_pair_apart():
    loss = lambda c, i: pairwise_ranking_loss(c, i, np.ones(1))[0]
    near, far = loss(np.array([1.0]), np.array([0.5])), loss(np.array([41.0]), np.array([40.5]))
    np.testing.assert_allclose(near, far, rtol=1e-5)
    up, down = jax.grad(loss, argnums=(0, 1))(jnp.array([-200.0]), jnp.array([200.0]))
    np.testing.assert_allclose((up, down), ([-1.0], [1.0]), atol=1e-6)


def test_parts_add_up_to_the_whole():
    """Sums and denominators of micro-batches add up exactly: what makes accumulation the same as one batch."""
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(size=(8, 5)).astype(np.float32), rng.random((8, 5)).astype(np.float32)
    mask = rng.random((8, 5)) < 0.4
    whole = value_cross_entropy(logits, targets, mask)
    parts = [value_cross_entropy(logits[b], targets[b], mask[b]) for b in (slice(0, 1), slice(1, 3), slice(3, 8))]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-5)


def test_an_empty_mask_gives_zero_and_zero():
    nothing = np.zeros_like(MASK)
    assert value_cross_entropy(LOGITS, TARGETS, nothing) == (0.0, 0.0)
    assert clipped_value_loss(LOGITS, TARGETS, TARGETS, nothing) == (0.0, 0.0)
    assert pairwise_ranking_loss(LOGITS[0], LOGITS[0], nothing[0]) == (0.0, 0.0)


def test_shapes_and_dtypes_are_checked():
    with pytest.raises(AssertionError):
        value_cross_entropy(LOGITS, TARGETS[:, :2], MASK)
    with pytest.raises(AssertionError):
        pairwise_ranking_loss(LOGITS, LOGITS, MASK)
