"""Where values come from: the policy's trunk with its surprise, or a network of the critic's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.model import ModelConfig, MTPTransformer, ValueHead, param_shapes
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.weighting import running_surprise

CONFIG = ModelConfig(dim=8, n_layers=3, n_heads=2, vocab_size=13, n_future_tokens=2, ffn_dim=10)
OTHER = ModelConfig(dim=12, n_layers=2, n_heads=2, vocab_size=13, ffn_dim=16)
MODEL, B, S = MTPTransformer(CONFIG), 2, 9
UNOPTIMISED = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here


@pytest.fixture(scope="module")
def batch():
    """Two rows; the second is padded."""
    rng = np.random.default_rng(0)
    ends = np.array([[9], [6]])
    at = np.arange(S)[None]
    return {
        "tokens": jnp.asarray(np.where(at < ends, rng.integers(1, 13, (B, S)), 0)),
        "segment_ids": jnp.asarray((at < ends).astype(np.int32)),
        "target_mask": jnp.asarray((at < ends) & (at >= 3)),
    }


@pytest.fixture(scope="module")
def trunk():
    return jnp.asarray(np.random.default_rng(1).normal(size=(B, S, CONFIG.dim)), jnp.float32)


@pytest.fixture(scope="module")
def features():
    return jnp.asarray(np.abs(np.random.default_rng(2).normal(size=(B, S, 3))), jnp.float32) * jnp.array([-1, 1, 1])


def drawn(tree, seed=3):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), jnp.float32), tree)


@pytest.mark.parametrize(("width", "surprise"), [(0, False), (0, True), (5, True)])
def test_values_are_those_of_the_head_on_trunk_and_surprise(batch, trunk, features, width, surprise):
    critic = Critic(ValueHead(width), surprise)
    head = drawn(critic.init(jax.random.key(0), MODEL))["head"]
    inputs = trunk
    if surprise:
        inputs = jnp.concatenate([trunk, running_surprise(features, batch["target_mask"])], axis=-1)
    x = np.asarray(inputs, np.float64)
    if width:
        x = x @ np.asarray(head["hidden"]["kernel"], np.float64) + np.asarray(head["hidden"]["bias"])
        x = x / (1 + np.exp(-x))
    expected = (x @ np.asarray(head["value"]["kernel"], np.float64) + np.asarray(head["value"]["bias"]))[..., 0]
    actual = critic.value_logits({"head": head}, batch, trunk, features if surprise else None)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("width", [0, 5])
def test_a_fresh_critic_is_undecided(batch, trunk, features, width):
    critic = Critic(ValueHead(width), surprise=True)
    values = critic.value_logits(critic.init(jax.random.key(0), MODEL), batch, trunk, features)
    np.testing.assert_array_equal(values, np.zeros((B, S)))


def test_the_gradient_into_the_trunk_is_scaled(batch, trunk, features):
    head = drawn(Critic(ValueHead(5), surprise=True).init(jax.random.key(0), MODEL))

    def gradient(factor):
        critic = Critic(ValueHead(5), surprise=True, trunk_gradient=factor)
        return jax.grad(lambda states: jnp.sum(critic.value_logits(head, batch, states, features) ** 2))(trunk)

    whole = gradient(1.0)
    assert np.all(np.any(whole != 0, axis=-1))
    np.testing.assert_array_equal(gradient(0.0), 0)
    np.testing.assert_allclose(gradient(0.25), 0.25 * whole, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def separate(batch, trunk):
    """A critic's own parameters, and (parameters, policy's trunk, tokens) -> values and gradients of their squares."""
    critic = Critic(ValueHead(0), surprise=False, trunk_gradient=1.0, separate=MTPTransformer(OTHER))
    value_params = drawn(critic.init(jax.random.key(0), MODEL, param_shapes(OTHER)))

    def squares(value_params, states, tokens):
        values = critic.value_logits(value_params, batch | {"tokens": tokens}, states, None)
        return jnp.sum(values**2), values

    gradient = jax.grad(squares, argnums=(0, 1), has_aux=True)
    return value_params, jax.jit(gradient, compiler_options=UNOPTIMISED)


def test_a_critic_of_its_own_network_ignores_the_policy_and_is_trained_whole(separate, batch, trunk):
    value_params, compute = separate
    assert value_params["head"]["value"]["kernel"].shape == (OTHER.dim, 1)
    (of_critic, of_policy), values = compute(value_params, trunk, batch["tokens"])
    np.testing.assert_array_equal(of_policy, 0)
    unembedding = of_critic["model"].pop("output")  # the one part that a value does not need
    assert not np.any(unembedding["kernel"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(of_critic))
    np.testing.assert_array_equal(compute(value_params, 3 * trunk, batch["tokens"])[1], values)


def test_a_value_depends_on_the_tokens_read_so_far(separate, batch, trunk):
    value_params, compute = separate
    values = [compute(value_params, trunk, tokens)[1] for tokens in (batch["tokens"], batch["tokens"].at[0, 5].set(0))]
    differs = np.asarray(values[0] != values[1])
    assert not np.any(differs[0, :5])
    assert np.all(differs[0, 5:])
    assert not np.any(differs[1])
