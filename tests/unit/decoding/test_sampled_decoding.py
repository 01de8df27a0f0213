"""Sampling: filters against numpy, speculative acceptance against worked numbers, distributions against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmtp_jax.decoding import SamplingParams, generate, sampling_probs
from wmtp_jax.decoding.speculation import accept_greedy, accept_sampled, draw_drafts
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params

DRAWS = 20_000


def probs_float64(logits, temperature, top_p=1.0, top_k=0):
    """Temperature, top-k, top-p for one row, as a person would do it."""
    scaled = np.asarray(logits, np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    ranked = sorted(range(len(probs)), key=lambda token: (-probs[token], token))
    if top_k:
        ranked = ranked[:top_k]
        probs = np.where(np.isin(np.arange(len(probs)), ranked), probs, 0) / probs[ranked].sum()
    kept, mass = [], 0.0
    for token in ranked:
        if mass >= top_p:
            break
        kept.append(token)
        mass += probs[token]
    return np.where(np.isin(np.arange(len(probs)), kept), probs, 0) / probs[kept].sum()


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40), min_size=7, max_size=7),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.1234, 0.51, 0.87, 1.0]),
    top_k=st.sampled_from([0, 1, 3]),
)
def test_filters_equal_numpy(logits, temperature, top_p, top_k):
    logits = np.array(logits) / 7.3  # Ties occur, masses that equal top_p to the last bit do not.
    sampling = SamplingParams(temperature, top_p if top_p < 1 else None, top_k or None)
    probs = np.asarray(sampling_probs(jnp.asarray(logits), sampling))
    np.testing.assert_allclose(probs, probs_float64(logits, temperature, top_p, top_k), atol=2e-6)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((0.6, None), [0, 2 / 3, 0, 1 / 3]),
        ((0.4, None), [0, 1, 0, 0]),
        ((1e-9, None), [0, 1, 0, 0]),
        ((None, 3), [0, 5 / 9, 1.5 / 9, 2.5 / 9]),
    ],
)
def test_filters_by_hand(filters, expected):
    """The token that crosses the mass of the nucleus is kept."""
    logits = jnp.log(jnp.array([0.1, 0.5, 0.15, 0.25]))
    np.testing.assert_allclose(sampling_probs(logits, SamplingParams(1.0, *filters)), expected, atol=1e-6)


def keys(n_rows: int, n_positions: int):
    return jax.random.split(jax.random.key(7), (n_rows, n_positions))


def test_acceptance_and_residual_of_the_worked_example():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.3])
    row_keys = keys(DRAWS, 2)
    draft_probs = jnp.broadcast_to(jnp.asarray(q), (DRAWS, 1, 3))
    drafts = draw_drafts(draft_probs, row_keys[:, :1])
    np.testing.assert_allclose(np.bincount(drafts[:, 0]) / DRAWS, q, atol=0.012)
    tokens, n_accepted = accept_sampled(drafts, draft_probs, jnp.broadcast_to(jnp.asarray(p), (DRAWS, 2, 3)), row_keys)
    assert np.mean(n_accepted) == pytest.approx(0.7, abs=0.012)
    assert set(np.asarray(tokens[:, 0])[np.asarray(n_accepted) == 0]) == {0}
    assert stats.chisquare(np.bincount(tokens[:, 0]), p * DRAWS).pvalue > 1e-3
    bonus = np.asarray(tokens[:, 1])[np.asarray(n_accepted) == 1]
    assert stats.chisquare(np.bincount(bonus), p * len(bonus)).pvalue > 1e-3


def test_a_draft_from_head_1s_own_distribution_is_always_accepted():
    probs = jax.random.dirichlet(jax.random.key(0), jnp.ones(5), (300, 4))
    row_keys = keys(300, 4)
    drafts = draw_drafts(probs[:, :3], row_keys[:, :3])
    tokens, n_accepted = accept_sampled(drafts, probs[:, :3], probs, row_keys)
    assert set(np.asarray(n_accepted)) == {3}
    np.testing.assert_array_equal(tokens[:, :3], drafts)


def test_a_draft_that_head_1_excludes_always_falls():
    p, q = jnp.array([0.0, 0.4, 0.6]), jnp.array([0.9, 0.1, 0.0])
    tokens, n_accepted = accept_sampled(
        jnp.zeros((500, 1), jnp.int32), jnp.broadcast_to(q, (500, 1, 3)), jnp.broadcast_to(p, (500, 2, 3)), keys(500, 2)
    )
    assert set(np.asarray(n_accepted)) == {0}
    assert set(np.asarray(tokens[:, 0])) == {1, 2}


def test_greedy_keeps_the_leading_matches_only():
    logits = 5.0 * jax.nn.one_hot(jnp.array([[3, 1, 4], [1, 5, 0], [2, 6, 5]]), 7)
    tokens, n_accepted = accept_greedy(jnp.array([[3, 1], [1, 4], [0, 6]]), logits)
    assert n_accepted.tolist() == [2, 1, 0]
    assert tokens.tolist() == [[3, 1, 4], [1, 5, 0], [2, 6, 5]]


TINY = ModelConfig(
    dim=16, n_layers=5, n_heads=2, n_kv_heads=1, vocab_size=6, ffn_dim=24, n_future_tokens=4, max_seq_len=32
)


def tiny_params():
    params = init_params(TINY, seed=5)
    params["output"]["kernel"] = 1.5 * params["output"]["kernel"]
    return params


def probs_of_three_tokens(params, prompt, **filters) -> np.ndarray:
    """Probability of every continuation of length 3, [V, V, V], from full forward passes."""
    V = TINY.vocab_size
    rows = np.array([[*prompt, *three] for three in itertools.product(range(V), repeat=3)])
    logits = np.asarray(MTPTransformer(TINY).apply({"params": params}, rows))[:, len(prompt) - 1 : -1, 0]
    steps = [
        [probs_float64(logits[row, i], **filters)[rows[row, len(prompt) + i]] for i in range(3)] for row in range(V**3)
    ]
    return np.prod(steps, axis=1).reshape(V, V, V)


@pytest.mark.slow
@pytest.mark.parametrize("filters", [{"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9, "top_k": 5}])
@pytest.mark.parametrize("speculate", [True, False])
def test_first_three_tokens_are_distributed_as_head_1s(filters, speculate):
    params, prompt = tiny_params(), [1, 4, 2]
    probs = probs_of_three_tokens(params, prompt, **filters).ravel()
    results = generate(
        params, TINY, [prompt] * DRAWS, max_new_tokens=3, speculate=speculate, seed=11, batch_size=2048, **filters
    )
    counts = np.zeros_like(probs)
    np.add.at(counts, [np.dot(result.tokens, [36, 6, 1]) for result in results], 1)
    assert counts[probs == 0].sum() == 0
    rare = probs * DRAWS < 5
    observed, expected = counts[~rare], probs[~rare] * DRAWS
    if rare.any() and probs[rare].sum() > 0:
        observed, expected = np.append(observed, counts[rare].sum()), np.append(expected, probs[rare].sum() * DRAWS)
    assert len(expected) > 30
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3
    drafted = np.mean([sum(head > 1 for head in result.heads) for result in results])
    assert (0.3 < drafted < 1.9) if speculate else drafted == 0


@pytest.mark.parametrize("speculate", [True, False])
def test_draws_depend_on_seed_prompt_index_and_position_only(speculate):
    params = tiny_params()
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 6, rng.integers(1, 9)).tolist() for _ in range(6)] + [[1, 2]] * 2
    draw = lambda prompts, seed=3, **more: [
        result.tokens
        for result in generate(
            params, TINY, prompts, max_new_tokens=11, temperature=1.0, speculate=speculate, seed=seed, **more
        )
    ]
    together = draw(prompts)
    assert together == draw(prompts)
    assert together == draw(prompts, batch_size=2)
    assert [together[i] for i in (5, 2)] == draw([prompts[5], prompts[2]], prompt_indices=[5, 2])
    assert together[6] != together[7]
    assert together != draw(prompts, seed=4)
    (longer,) = generate(
        params, TINY, prompts[:1], max_new_tokens=20, temperature=1.0, speculate=speculate, seed=3, batch_size=8
    )
    assert longer.tokens[:11] == together[0]


def test_top_k_of_one_is_greedy():
    params = tiny_params()
    prompts = [[1, 2, 3], [4]]
    greedy = generate(params, TINY, prompts, max_new_tokens=9)
    sampled = generate(params, TINY, prompts, max_new_tokens=9, temperature=1.0, top_k=1)
    assert [result.tokens for result in sampled] == [result.tokens for result in greedy]
