"""Greedy generation: speculation changes the number of passes and nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.decoding import generate
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params

MODELS = {
    "plain": ModelConfig(dim=32, n_layers=3, n_heads=4, vocab_size=61, ffn_dim=48, n_future_tokens=1, max_seq_len=96),
    "two heads, tied, GQA": ModelConfig(
        dim=32,
        n_layers=4,
        n_heads=4,
        n_kv_heads=2,
        vocab_size=47,
        ffn_dim=48,
        n_future_tokens=2,
        tie_embeddings=True,
        max_seq_len=96,
    ),
    "four heads, GQA": ModelConfig(
        dim=24,
        n_layers=6,
        n_heads=4,
        n_kv_heads=1,
        head_dim=8,
        vocab_size=37,
        ffn_dim=40,
        n_future_tokens=4,
        max_seq_len=96,
    ),
}


@functools.cache
def model(name: str):
    """A random model whose later heads copy head 1 partly, so that some drafts stand and some fall."""
    config = MODELS[name]
    params = init_params(config, seed=3)
    params["heads"] = jax.tree.map(lambda x: 0.85 * x[:1] + 0.15 * x, params["heads"])
    return config, params


@functools.cache
def forward(config: ModelConfig):
    return jax.jit(
        lambda params, tokens: jnp.argmax(MTPTransformer(config).apply({"params": params}, tokens)[:, :, 0], -1)
    )


def is_greedy(config, params, prompts, results) -> bool:
    """Every new token is the argmax of head 1 in one full forward pass, without any cache, over prompt and tokens.

    By induction over the tokens this is what a loop of full forward passes would give.
    """
    rows = [prompt + result.tokens for prompt, result in zip(prompts, results, strict=True)]
    padded = np.zeros((len(rows), config.max_seq_len), np.int32)
    for row, tokens in enumerate(rows):
        padded[row, : len(tokens)] = tokens
    best = np.asarray(forward(config)(params, padded))
    return all(
        best[row, len(prompt) - 1 : len(tokens) - 1].tolist() == tokens[len(prompt) :]
        for row, (prompt, tokens) in enumerate(zip(prompts, rows, strict=True))
    )


def prompts_for(config: ModelConfig, n: int, longest: int = 40) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, config.vocab_size, rng.integers(1, longest)).tolist() for _ in range(n)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_new_tokens", [1, 7, 22])
def test_speculation_equals_head_1_equals_full_forwards(name, max_new_tokens):
    config, params = model(name)
    prompts = prompts_for(config, 9)
    for speculate in (True, False):
        results = generate(params, config, prompts, max_new_tokens=max_new_tokens, speculate=speculate, batch_size=8)
        assert is_greedy(config, params, prompts, results)
        assert {len(result.tokens) for result in results} == {max_new_tokens}
        assert {result.stop_reason for result in results} == {"length"}
        for result in results:
            assert result.forward_passes <= max_new_tokens
            if not speculate:
                assert result.forward_passes == max_new_tokens
                assert set(result.heads) == {1}


def test_the_last_block_of_drafts_may_reach_past_the_end():
    config, params = model("four heads, GQA")
    config = dataclasses.replace(config, max_seq_len=64)  # a multiple of the prefill's positions
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, config.vocab_size, 30).tolist() for _ in range(8)]
    results = generate(params, config, prompts, max_new_tokens=34)
    assert {len(result.tokens) for result in results} == {34}
    assert is_greedy(config, params, prompts, results)


def test_a_memorised_cycle_takes_one_pass_per_block():
    """All heads of this model know the next tokens for certain: embedding t is a code for t + k of head k."""
    config, params = counting_model()
    (result,) = generate(params, config, [[3]], max_new_tokens=14)
    assert result.tokens == [(4 + i) % 8 for i in range(14)]
    # 1 token from the prefill, then blocks of 4: 1 + 4 + 4 + 4 + 1.
    assert result.forward_passes == 5
    assert result.heads == [1] + [2, 3, 4, 1] * 3 + [2]
    assert result.accepted(4) == [4, 3, 3]


def counting_model():
    """N = 4 over 8 tokens; head k maps the one-hot of t to the one-hot of t + k through its feed-forward layer."""
    config = ModelConfig(dim=8, n_layers=5, n_heads=1, vocab_size=8, ffn_dim=8, n_future_tokens=4, max_seq_len=64)
    params = jax.tree.map(jnp.zeros_like, init_params(config))
    ones = lambda tree: jax.tree.map(jnp.ones_like, tree)
    eye = jnp.eye(8)
    params["tok_embeddings"]["embedding"] = eye
    params["output"]["kernel"] = eye
    params["norm"] = ones(params["norm"])
    for part in ("trunk", "heads"):
        params[part]["ffn_norm"] = ones(params[part]["ffn_norm"])
    params["heads"]["feed_forward"]["w1"] = jnp.stack([eye] * 4)
    params["heads"]["feed_forward"]["w3"] = jnp.stack([eye] * 4)
    params["heads"]["feed_forward"]["w2"] = jnp.stack([5 * jnp.roll(eye, k, axis=1) for k in (1, 2, 3, 4)])
    return config, params


@pytest.mark.parametrize("place", range(1, 9))
def test_eos_inside_an_accepted_block_ends_the_row_there(place):
    config, params = counting_model()
    eos = (3 + place) % 8
    for speculate in (True, False):
        (result,) = generate(params, config, [[3]], max_new_tokens=30, eos_id=eos, speculate=speculate)
        assert result.tokens == [(4 + i) % 8 for i in range(place)]
        assert result.stop_reason == "eos"
    assert result.forward_passes == place


@pytest.mark.parametrize("name", MODELS)
def test_eos_cuts_the_continuation_and_nothing_else(name):
    config, params = model(name)
    prompts = prompts_for(config, 8)
    free = generate(params, config, prompts, max_new_tokens=21)
    eos = max(range(config.vocab_size), key=lambda token: sum(token in result.tokens for result in free))
    reasons = set()
    for speculate in (True, False):
        results = generate(params, config, prompts, max_new_tokens=21, eos_id=eos, speculate=speculate)
        for result, whole in zip(results, free, strict=True):
            end = whole.tokens.index(eos) + 1 if eos in whole.tokens else 21
            assert result.tokens == whole.tokens[:end]
            assert result.stop_reason == ("eos" if eos in whole.tokens else "length")
            reasons.add(result.stop_reason)
    assert "eos" in reasons


@pytest.mark.parametrize("name", MODELS)
def test_batch_composition_changes_nothing(name):
    config, params = model(name)
    prompts = prompts_for(config, 7)
    together = generate(params, config, prompts, max_new_tokens=9)
    alone = [generate(params, config, [prompt], max_new_tokens=9)[0] for prompt in prompts]
    assert together == alone


def sharpen(params):
    """Makes every token attend to few others, wherever they are, and what it finds there count."""
    for layers in params["trunk"], params["heads"]:
        layers["attention"] = jax.tree.map(lambda kernel: 8 * kernel, layers["attention"])


def test_the_context_ends_a_row():
    config, params = model("four heads, GQA")
    sharpen(params := jax.tree.map(np.asarray, params))
    prompt = np.random.default_rng(2).integers(0, config.vocab_size, 90).tolist()
    (result,) = generate(params, config, [prompt], max_new_tokens=50)
    assert len(result.tokens) == 6
    assert is_greedy(config, params, [prompt], [result])
    assert result.stop_reason == "length"


def test_a_long_prompt_is_fed_in_chunks():
    config = ModelConfig(dim=16, n_layers=3, n_heads=2, vocab_size=31, ffn_dim=24, n_future_tokens=2, max_seq_len=700)
    params = init_params(config, seed=3)
    sharpen(params)
    prompt = np.random.default_rng(1).integers(0, 31, 601).tolist()
    prompts = [prompt[:length] for length in (601, 599, 560, 300, 257, 256, 1)]
    assert is_greedy(config, params, prompts, generate(params, config, prompts, max_new_tokens=5))


def test_no_prompts_no_results():
    config, params = model("plain")
    assert generate(params, config, [], max_new_tokens=4) == []


def test_one_compilation_serves_many_calls():
    from wmtp_jax.decoding.steps import decode, prefill

    config, params = model("four heads, GQA")
    generate(params, config, prompts_for(config, 8), max_new_tokens=8, batch_size=8)
    compiled = prefill._cache_size(), decode._cache_size()
    generate(params, config, prompts_for(config, 5, longest=20), max_new_tokens=8, batch_size=8, seed=5)
    assert (prefill._cache_size(), decode._cache_size()) == compiled
