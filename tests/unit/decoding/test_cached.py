"""Decoding against caches gives what the whole sequence gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.decoding import generate
from wmtp_jax.decoding.cached import CachedModel, unstack_layers
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params
from wmtp_jax.model.attention import cached_attention

CONFIG = ModelConfig(dim=24, n_layers=5, n_heads=4, n_kv_heads=2, vocab_size=53, n_future_tokens=3, ffn_dim=37)
TIED = ModelConfig(dim=24, n_layers=4, n_heads=6, n_kv_heads=1, vocab_size=31, n_future_tokens=2, tie_embeddings=True)


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["gqa", "mqa, tied"])
def test_in_pieces_and_with_rows_at_different_positions(config):
    params = init_params(config, seed=3)
    tokens = jax.random.randint(jax.random.key(0), (2, 90), 0, config.vocab_size)
    whole = MTPTransformer(config).apply({"params": params}, tokens)  # [B, S, N, V]
    model = CachedModel(unstack_layers(params, n_heads=config.n_future_tokens, dtype=jnp.float32), config, jnp.float32)
    positions = jnp.broadcast_to(jnp.arange(50), (2, 50))
    trunk, cache = model.trunk(tokens[:, :50], positions, model.empty_cache(2, 90))
    cache = model.fill_head_caches(trunk, positions, cache)
    lengths = jnp.array([[50], [37]])  # the second row goes back and feeds its tokens again
    for step in range(12):
        positions = lengths + step * 3 + jnp.arange(3)
        query_positions = jnp.array([step % 3, (step + 1) % 3])
        trunk, cache = model.trunk(jnp.take_along_axis(tokens, positions, axis=1), positions, cache)
        first, cache = model.first_head(trunk, positions, cache)
        drafted, cache = model.drafters(trunk, positions, cache, query_positions)
        for row in range(2):
            expected = whole[row, positions[row]]
            np.testing.assert_allclose(first[row], expected[:, 0], atol=2e-5)
            np.testing.assert_allclose(drafted[row], expected[query_positions[row], 1:], atol=2e-5)


def test_slots_that_are_not_attended_to_are_not_read():
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.normal(size=(2, 3, 4, 8)), jnp.float32)
    cache = {"k": rng.normal(size=(2, 2, 8, 20)), "v": rng.normal(size=(2, 2, 20, 8))}
    cache = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), cache)
    positions = jnp.array([[9, 10, 11], [0, 1, 2]])
    spoiled = {"k": cache["k"].at[..., 12:].set(jnp.nan), "v": cache["v"].at[:, :, 12:].set(jnp.nan)}
    expected = cached_attention(q, cache, positions)
    np.testing.assert_allclose(cached_attention(q, spoiled, positions, 12), expected, atol=1e-6)
    assert np.isnan(cached_attention(q, spoiled, positions)).any()


def test_a_model_of_one_head_drafts_nothing():
    params = init_params(CONFIG, seed=3)
    one = ModelConfig(**{**vars(CONFIG), "n_layers": 3, "n_future_tokens": 1})
    model = CachedModel(unstack_layers(params, n_heads=1, dtype=jnp.float32), one, jnp.float32)
    positions = jnp.zeros((2, 1), jnp.int32)
    trunk, cache = model.trunk(positions, positions, model.empty_cache(2, 4))
    drafted, _ = model.drafters(trunk, positions, cache, jnp.zeros(2, jnp.int32))
    assert drafted.shape == (2, 0, CONFIG.vocab_size)


def test_unstacking_deletes_donated_stacks():
    params = init_params(CONFIG, seed=3)
    expected = jax.tree.map(np.asarray, unstack_layers(params, n_heads=2, dtype=jnp.bfloat16))
    assert len(expected["trunk"]) == CONFIG.n_trunk_layers
    assert len(expected["heads"]) == 2
    layers = unstack_layers(params, n_heads=2, dtype=jnp.bfloat16, donate=True)
    jax.tree.map(np.testing.assert_array_equal, layers, expected)
    stacks = jax.tree.leaves([params["trunk"], params["heads"]])
    assert all(leaf.is_deleted() for leaf in stacks)


@pytest.mark.parametrize("speculate", [True, False])
def test_unstacked_parameters_generate_the_same(speculate):
    params, prompts = init_params(CONFIG, seed=3), [[5, 6, 7], [8]]
    layers = unstack_layers(params, n_heads=CONFIG.n_future_tokens, dtype=jnp.float32)
    settings = {"max_new_tokens": 12, "speculate": speculate}
    assert generate(layers, CONFIG, prompts, **settings) == generate(params, CONFIG, prompts, **settings)
