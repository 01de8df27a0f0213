"""The update rule by hand: schedule, decay, clip, and the parts that stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from wmtp_jax.training.optimizer import decay_mask, learning_rate, make_optimizer


@pytest.fixture
def config():
    config = defaults.get_config().optimizer
    config.learning_rate = 0.1
    config.warmup_steps = 2
    return config


@pytest.fixture
def params():
    return {
        "trunk": {"attention": {"wq": jnp.full((2, 3, 4), 2.0)}, "ffn_norm": {"scale": jnp.full((2, 3), 2.0)}},
        "heads": {"attention": {"wq": jnp.full((3, 3, 4), 2.0)}, "ffn_norm": {"scale": jnp.full((3, 3), 2.0)}},
        "norm": {"scale": jnp.full(3, 2.0)},
    }


def trained(config, params, gradients, steps=3, **options):
    """Parameters after some steps with the same gradients."""
    optimizer = make_optimizer(config, 10, **options)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update, compiler_options={"xla_backend_optimization_level": 0})
    for _ in range(steps):
        updates, state = update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_schedule_by_hand(config):
    rate = learning_rate(config, 10)
    # Up to .1 in two steps, then half a cosine over eight to a tenth of it.
    cosine = lambda step: 0.01 + 0.09 * 0.5 * (1 + np.cos(np.pi * (step - 2) / 8))
    expected = [0.0, 0.05, *(cosine(step) for step in range(2, 11))]
    np.testing.assert_allclose([rate(step) for step in range(11)], expected, rtol=1e-5)
    assert float(rate(10)) == pytest.approx(0.01)


def test_a_run_shorter_than_its_warm_up_still_reaches_the_peak(config):
    config.warmup_steps = 100
    rates = [float(learning_rate(config, 4)(step)) for step in range(5)]
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.01)


def test_only_matrices_decay(config, params):
    names = {jax.tree_util.keystr(path): kept for path, kept in jax.tree_util.tree_leaves_with_path(decay_mask(params))}
    assert {name for name, kept in names.items() if not kept} == {name for name in names if "scale" in name}
    assert decay_mask({"value": {"kernel": 0, "bias": 0}}) == {"value": {"kernel": True, "bias": False}}
    after = trained(config, params, jax.tree.map(jnp.zeros_like, params))
    # Steps at rates 0, .05 and .1 shrink by rate * weight decay each.
    np.testing.assert_allclose(after["trunk"]["attention"]["wq"], 2.0 * (1 - 0.005) * (1 - 0.01), rtol=1e-6)
    np.testing.assert_array_equal(after["trunk"]["ffn_norm"]["scale"], 2.0)


def test_adamw_by_hand(config):
    """A constant gradient g moves a parameter by rate * g / (|g| + eps), beside the decay."""
    params, gradients = {"norm": {"scale": jnp.array([1.0, 1.0])}}, {"norm": {"scale": jnp.array([0.3, -0.4])}}
    after = trained(config, params, gradients)
    np.testing.assert_allclose(after["norm"]["scale"], [1 - 0.15, 1 + 0.15], rtol=1e-5)


def test_large_gradients_are_clipped_together(config):
    config.eps = 1.0  # so that the size of a gradient shows in the step
    params, gradients = {"norm": {"scale": jnp.zeros(2)}}, {"norm": {"scale": jnp.array([30.0, 40.0])}}
    after = trained(config, params, gradients)
    np.testing.assert_allclose(after["norm"]["scale"], [-0.15 * 0.6 / 1.6, -0.15 * 0.8 / 1.8], rtol=1e-5)


def test_what_is_frozen_is_not_touched_and_does_not_clip_the_rest(config, params):
    huge = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e-3), params)
    huge["trunk"] = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e9), params["trunk"])
    config.eps = 1.0
    frozen = trained(config, params, huge, freeze=["trunk/att", "trunk/ffn_norm/scale$"])
    jax.tree.map(np.testing.assert_array_equal, frozen["trunk"], params["trunk"])
    alone = {name: params[name] for name in ("heads", "norm")}
    expected = trained(config, alone, {name: huge[name] for name in alone})
    jax.tree.map(np.testing.assert_array_equal, {name: frozen[name] for name in alone}, expected)
    assert not np.array_equal(frozen["norm"]["scale"], params["norm"]["scale"])


def test_a_pattern_matches_from_the_start_of_the_path(config, params):
    gradients = jax.tree.map(jnp.ones_like, params)
    after = trained(config, params, gradients, freeze=["norm"])
    np.testing.assert_array_equal(after["norm"]["scale"], params["norm"]["scale"])
    assert not np.array_equal(after["trunk"]["ffn_norm"]["scale"], params["trunk"]["ffn_norm"]["scale"])


def test_heads_of_weight_zero_are_not_touched_by_decay_neither(config, params):
    gradients = jax.tree.map(jnp.ones_like, params)
    after = trained(config, params, gradients, head_weights=(0.0, 1.0, 0.0))
    for leaf, before in zip(jax.tree.leaves(after["heads"]), jax.tree.leaves(params["heads"]), strict=True):
        np.testing.assert_array_equal(leaf[::2], before[::2])
        assert np.all(leaf[1] != before[1])
    assert np.all(after["trunk"]["attention"]["wq"] != 2.0)
