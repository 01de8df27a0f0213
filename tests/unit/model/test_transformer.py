"""The network's own properties; parity with other implementations is in tests/parity."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.model import (
    ModelConfig,
    ModelConfigError,
    MTPTransformer,
    RopeScaling,
    init_params,
    logical_axes,
    param_shapes,
)

CONFIG = ModelConfig(dim=24, n_layers=5, n_heads=4, n_kv_heads=2, vocab_size=53, n_future_tokens=3, ffn_dim=37)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, seed=3)


def tokens_of(length, batch=2, seed=0):
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, CONFIG.vocab_size)


def apply(params, tokens, segment_ids=None, config=CONFIG, **attributes):
    return MTPTransformer(config, **attributes).apply({"params": params}, tokens, segment_ids)


def test_param_tree_is_the_one_of_the_design(params):
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes["trunk"]["attention"] == {
        "wq": (2, 24, 4, 6),
        "wk": (2, 24, 2, 6),
        "wv": (2, 24, 2, 6),
        "wo": (2, 4, 6, 24),
    }
    assert shapes["heads"]["feed_forward"] == {"w1": (3, 24, 37), "w3": (3, 24, 37), "w2": (3, 37, 24)}
    assert shapes["trunk"]["attention_norm"] == {"scale": (2, 24)}
    assert shapes["tok_embeddings"] == {"embedding": (53, 24)}
    assert shapes["norm"] == {"scale": (24,)}
    assert shapes["output"] == {"kernel": (24, 53)}
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, param_shapes(CONFIG))


def test_every_parameter_axis_has_a_logical_name(params):
    named = jax.tree.map(lambda leaf, axes: len(axes) == leaf.ndim and all(axes), params, logical_axes(CONFIG))
    assert all(jax.tree.leaves(named))


def test_tied_models_have_no_output_and_use_the_embedding():
    config = ModelConfig(dim=24, n_layers=3, n_heads=4, vocab_size=53, tie_embeddings=True)
    params = init_params(config)
    assert "output" not in params
    model, variables = MTPTransformer(config), {"params": params}
    states = model.apply(variables, model.apply(variables, tokens_of(9), method="trunk_states"), method="head_states")
    np.testing.assert_allclose(
        model.apply(variables, tokens_of(9))[:, :, 0], states[0] @ params["tok_embeddings"]["embedding"].T, atol=1e-5
    )


@pytest.mark.parametrize("attention", ["dense", "blocked"])
def test_causality_by_zero_gradient_for_trunk_and_every_head(params, attention):
    length, t = 160, 130
    config = dataclasses.replace(CONFIG, vocab_size=length)
    model = MTPTransformer(config, attention=attention)

    def outputs(embedding_rows):
        # One vocabulary row per position: the gradient with respect to row i is the one with respect to input i.
        variables = {"params": {**params, "tok_embeddings": {"embedding": embedding_rows}}}
        trunk = model.apply(variables, jnp.arange(length)[None], method="trunk_states")
        states = model.apply(variables, trunk, method="head_states")
        return trunk[0, t], states[:, 0, t]

    rows = jax.random.normal(jax.random.key(1), (length, CONFIG.dim))
    to_trunk, to_heads = jax.jacrev(outputs)(rows)
    assert not np.any(to_trunk[:, t + 1 :])
    assert not np.any(to_heads[:, :, t + 1 :])
    assert np.all(np.abs(to_trunk[:, : t + 1]).max((0, 2)) > 0)
    assert np.all(np.abs(to_heads[:, :, : t + 1]).max((1, 3)) > 0)


@pytest.mark.parametrize("packed", [False, True])
def test_blocked_attention_is_dense_attention(params, packed):
    tokens = tokens_of(301)
    segments = jnp.repeat(jnp.array([[1] * 130 + [2] * 140 + [0] * 31]), 2, 0) if packed else None
    np.testing.assert_allclose(
        apply(params, tokens, segments), apply(params, tokens, segments, attention="blocked"), atol=2e-5
    )


def test_a_packed_document_gives_what_it_gives_alone(params):
    documents = [tokens_of(n, batch=1, seed=n) for n in (7, 64, 29)]
    packed = jnp.concatenate([*documents, jnp.zeros((1, 11), int)], axis=1)
    segments = jnp.repeat(jnp.array([1, 2, 3, 0]), jnp.array([7, 64, 29, 11]))[None]
    logits, start = apply(params, packed, segments), 0
    for document in documents:
        end = start + document.shape[1]
        np.testing.assert_allclose(logits[:, start:end], apply(params, document), atol=2e-5)
        start = end


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_memory_not_results(params, remat):
    loss = lambda p, r: jnp.mean(apply(p, tokens_of(40), remat=r) ** 2)
    plain, kept = jax.grad(loss)(params, "none"), jax.grad(loss)(params, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, kept)


def test_bf16_compute_keeps_fp32_logits_and_masters(params):
    logits = apply(params, tokens_of(64), dtype=jnp.bfloat16)
    assert logits.dtype == jnp.float32
    exact = apply(params, tokens_of(64))
    assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


def test_llama3_scaling_slows_only_low_frequencies(params):
    config = dataclasses.replace(CONFIG, rope_scaling=RopeScaling(8.0, 1.0, 4.0, original_max_position_embeddings=64))
    changed = np.abs(apply(params, tokens_of(80), config=config) - apply(params, tokens_of(80))).max((0, 2, 3))
    assert changed[0] < 1e-5
    assert changed[60:].max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 5}, "not divisible"),
        ({"n_kv_heads": 3}, "multiple of n_kv_heads"),
        ({"n_layers": 3}, "must exceed"),
        ({"dim": 0}, "positive integer"),
        ({"head_dim": 7}, "even width"),
        ({"vocab_size": 5.5}, "positive integer"),
        ({"vocab_size": "9" * 100_000}, "^model field vocab_size is '9{78}…; expected a positive integer$"),
    ],
)
def test_wrong_architectures_are_named(change, message):
    with pytest.raises(ModelConfigError, match=message):
        ModelConfig(**{**vars(CONFIG), "head_dim": None, **change})


def test_unknown_remat_and_attention_are_named(params):
    with pytest.raises(ModelConfigError, match="remat"):
        apply(params, tokens_of(4), remat="some")
    with pytest.raises(ModelConfigError, match="attention"):
        apply(params, tokens_of(4), attention="flash")
