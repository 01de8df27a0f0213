"""Advantages and value targets: numbers by hand, a float64 loop, rlax, and what must not matter."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weighting_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.weighting import (
    WeightingError,
    before_last_token,
    length_adaptive_lambda,
    td_errors,
    token_advantages,
    value_positions,
    value_targets,
)

# Four response tokens with the baselines V_{j-1} = .5, .6, .4, .9; the value after the last token is never read.
VALUES = np.array([[0.5, 0.6, 0.4, 0.9, 0.3]], np.float32)
MASK = np.array([[0, 1, 1, 1, 1]], bool)

advantages = jax.jit(token_advantages)
errors = jax.jit(td_errors)
lambda_targets = jax.jit(functools.partial(value_targets, returns="lambda"))
monte_carlo_targets = jax.jit(functools.partial(value_targets, returns="monte_carlo"))


@pytest.mark.parametrize(
    ("is_correct", "gamma", "expected"),
    [
        (1, 1.0, [0.1, -0.2, 0.5, 0.1]),
        (0, 1.0, [0.1, -0.2, 0.5, -0.9]),
        (1, 0.9, [0.04, -0.24, 0.41, 0.1]),
    ],
)
def test_td_errors_by_hand(is_correct, gamma, expected):
    np.testing.assert_allclose(td_errors(VALUES, [is_correct], MASK, gamma=gamma), [[0.0, *expected]], atol=1e-6)


@pytest.mark.parametrize("compute", [token_advantages, advantages], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("is_correct", "gamma", "lambda_", "expected"),
    [
        (1, 1.0, 0.95, [0.446987, 0.36525, 0.595, 0.1]),
        (1, 1.0, 0.5, [0.1375, 0.075, 0.55, 0.1]),
        (1, 1.0, 1.0, [0.5, 0.4, 0.6, 0.1]),
        (0, 1.0, 0.95, [-0.410388, -0.53725, -0.355, -0.9]),
        (0, 1.0, 1.0, [-0.5, -0.6, -0.4, -0.9]),
        (1, 0.9, 0.95, [0.197023, 0.183653, 0.4955, 0.1]),
    ],
)
def test_advantages_by_hand(compute, is_correct, gamma, lambda_, expected):
    actual = compute(VALUES, np.array([is_correct]), MASK, gamma=gamma, lambda_=lambda_)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, [[0.0, *expected]], atol=1e-5)


def test_agrees_with_a_float64_loop_on_a_thousand_responses():
    rng = np.random.default_rng(0)
    rows, longest = 50, 2048
    for _ in range(20):
        lengths = np.where(rng.random(rows) < 0.5, rng.integers(1, longest + 1, rows), rng.integers(1, 40, rows))
        firsts = np.array([rng.integers(1, longest + 1 - length + 1) for length in lengths])
        values = rng.random((rows, longest + 1)).astype(np.float32)
        is_correct = rng.integers(0, 2, rows)
        position = np.arange(longest + 1)
        mask = (position >= firsts[:, None]) & (position < (firsts + lengths)[:, None])
        gamma, lambdas = rng.choice([1.0, 0.999, 0.9, 0.0]), rng.choice([1.0, 0.95, 0.5, 0.0], rows)
        actual = advantages(values, is_correct, mask, gamma=gamma, lambda_=lambdas)
        np.testing.assert_allclose(actual, oracle.advantages(values, is_correct, mask, gamma, lambdas), atol=2e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.97])
@pytest.mark.parametrize("lambda_", [1.0, 0.95, 0.0])
def test_agrees_with_rlax_where_the_episode_ends_with_a_zero_discount(gamma, lambda_):
    rlax = pytest.importorskip("rlax", reason="rlax is not installed for this Python")
    rng = np.random.default_rng(0)
    values, is_correct = rng.random((6, 41)).astype(np.float32), rng.integers(0, 2, 6)
    mask = np.broadcast_to(np.arange(41) > 0, (6, 41))
    rewards, discounts = np.zeros((6, 40), np.float32), np.full((6, 40), gamma, np.float32)
    rewards[:, -1], discounts[:, -1] = is_correct, 0.0
    peer = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(0, 0, None, 0))
    actual = advantages(values, is_correct, mask, gamma=gamma, lambda_=lambda_)
    np.testing.assert_allclose(actual[:, 1:], peer(rewards, discounts, lambda_, values), atol=1e-5)

    returns = jax.vmap(rlax.lambda_returns, in_axes=(0, 0, 0, None))
    targets, positions = lambda_targets(values, is_correct, mask, gamma=gamma, lambda_=lambda_)
    np.testing.assert_allclose(targets[:, :-1], returns(rewards, discounts, values[:, 1:], lambda_), atol=1e-5)
    np.testing.assert_array_equal(positions, np.broadcast_to(np.arange(41) < 40, (6, 41)))


@pytest.mark.parametrize(("lambda_", "by_hand"), [(1.0, [3.0, 2.0, 1.0, 0.0]), (0.4, [1.7256, 1.46, 1.0, 0.0])])
def test_agrees_with_rlax_on_a_zero_discount_inside_a_sequence(lambda_, by_hand):
    """There it cuts one long sequence in two; here what lies before the cut is a row of its own."""
    values = np.array([-3.0, -2.0, -1.0, 0.0, 5.0, -1.0], np.float32)
    actual = token_advantages(values[None], np.array([0]), np.array([[0, 1, 1, 1, 1, 0]]), gamma=0.9, lambda_=lambda_)
    np.testing.assert_allclose(actual[0], [0.0, *by_hand, 0.0], atol=1e-4)
    rlax = pytest.importorskip("rlax", reason="rlax is not installed for this Python")
    discounts, rewards = np.array([0.9, 0.9, 0.9, 0.0, 0.9], np.float32), np.array([0, 0, 0, 0, 1], np.float32)
    peer = rlax.truncated_generalized_advantage_estimation(rewards, discounts, lambda_, values)
    np.testing.assert_allclose(actual[0, 1:5], peer[:4], atol=1e-5)


@st.composite
def batches(draw):
    """Four rows of twelve positions with one response each, anywhere after position 0."""
    rows, length = 4, 12
    mask = np.zeros((rows, length), bool)
    for row in mask:
        first = draw(st.integers(1, length - 1))
        row[first : draw(st.integers(first + 1, length))] = True
    values = np.array(draw(st.lists(st.floats(0, 1, width=32), min_size=48, max_size=48)), np.float32)
    is_correct = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    return values.reshape(rows, length), is_correct, mask


ratios = st.floats(0, 1, width=32)
property_test = settings(deadline=None, max_examples=50)


@given(batches())
@property_test
def test_without_discount_and_mixing_the_advantage_is_outcome_less_baseline_and_errors_sum_to_it(batch):
    values, is_correct, mask = batch
    expected = np.where(mask, is_correct[:, None] - np.roll(values, 1, axis=1), 0.0)
    np.testing.assert_allclose(advantages(*batch, gamma=1.0, lambda_=1.0), expected, atol=1e-5)
    of_first = np.take_along_axis(expected, mask.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(errors(*batch, gamma=1.0).sum(axis=1), of_first, atol=1e-5)


@given(batches(), ratios, ratios)
@property_test
def test_only_values_before_response_tokens_influence_anything(batch, gamma, lambda_):
    """The value at the last response token, at earlier prompt tokens and on padding may be anything, even NaN."""
    values, is_correct, mask = batch
    elsewhere = np.where(value_positions(mask), values, np.nan)
    for compute in (advantages, lambda_targets):
        expected = compute(values, is_correct, mask, gamma=gamma, lambda_=lambda_)
        chex.assert_trees_all_equal(compute(elsewhere, is_correct, mask, gamma=gamma, lambda_=lambda_), expected)


@given(batches(), st.permutations(range(4)), ratios, ratios)
@property_test
def test_rows_do_not_see_each_other_and_padding_changes_nothing(batch, order, gamma, lambda_):
    values, is_correct, mask = batch
    order = np.array(order)
    expected = np.asarray(advantages(values, is_correct, mask, gamma=gamma, lambda_=lambda_))
    permuted = advantages(values[order], is_correct[order], mask[order], gamma=gamma, lambda_=lambda_)
    np.testing.assert_array_equal(permuted, expected[order])
    pad = lambda x, fill: np.pad(x, ((0, 0), (0, 3)), constant_values=fill)
    padded = advantages(pad(values, 7.0), is_correct, pad(mask, False), gamma=gamma, lambda_=lambda_)
    np.testing.assert_allclose(padded[:, :12], expected, atol=1e-6)
    np.testing.assert_array_equal(padded[:, 12:], 0.0)


@given(batches(), ratios)
@property_test
def test_lambda_returns_at_lambda_one_are_monte_carlo_returns(batch, gamma):
    targets, positions = lambda_targets(*batch, gamma=gamma, lambda_=1.0)
    expected, expected_positions = monte_carlo_targets(*batch, gamma=gamma)
    np.testing.assert_allclose(targets, expected, atol=1e-5)
    np.testing.assert_array_equal(positions, expected_positions)


def test_the_value_at_the_last_token_gets_no_gradient_and_targets_pass_none():
    of_advantages = jax.grad(lambda values: advantages(values, jnp.ones(1), MASK, gamma=0.9, lambda_=0.9).sum())
    np.testing.assert_array_equal(of_advantages(VALUES) != 0, [[True, True, True, True, False]])
    of_targets = jax.grad(lambda values: lambda_targets(values, jnp.ones(1), MASK, gamma=1.0, lambda_=0.5)[0].sum())
    np.testing.assert_array_equal(of_targets(VALUES), np.zeros((1, 5)))


def test_position_zero_is_never_a_target():
    actual, expected = (advantages(VALUES, np.array([1]), m, gamma=1.0, lambda_=0.95) for m in (np.ones((1, 5)), MASK))
    np.testing.assert_allclose(actual, expected)


def test_length_adaptive_lambda_by_hand():
    # 1 - 1 / (.05 * 200) = .9; a response of 20 tokens or fewer reaches 0.
    actual = length_adaptive_lambda(np.array([200, 2000, 20, 5, 0]), 0.05)
    np.testing.assert_allclose(actual, [0.9, 0.99, 0.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("is_correct", "gamma", "expected"),
    [(1, 0.9, [0.729, 0.81, 0.9, 1.0, 0.0]), (0, 0.9, [0, 0, 0, 0, 0]), (1, 0.0, [0, 0, 0, 1, 0])],
)
def test_monte_carlo_targets_by_hand(is_correct, gamma, expected):
    targets, positions = monte_carlo_targets(VALUES, np.array([is_correct]), MASK, gamma=gamma)
    np.testing.assert_allclose(targets, [expected], atol=1e-6)
    np.testing.assert_array_equal(positions, [[True, True, True, True, False]])


def test_value_before_the_last_token():
    mask = np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])
    np.testing.assert_allclose(before_last_token(np.tile(VALUES, (3, 1)), mask), [0.6, 0.9, 0.0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gamma": 1.01}, r"gamma is 1.01, expected a discount from 0 to 1"),
        ({"gamma": -0.1}, r"gamma is -0.1"),
        ({"lambda_": 2}, r"lambda_ is 2, expected a mixing parameter from 0 to 1"),
        ({"lambda_": float("nan")}, r"lambda_ is nan"),
        ({"returns": "td"}, r"returns is 'td', expected 'monte_carlo' or 'lambda'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting, message):
    with pytest.raises(WeightingError, match=message):
        value_targets(VALUES, np.array([1]), MASK, **{"returns": "lambda", "gamma": 1.0, "lambda_": 1.0, **setting})
    if "returns" not in setting:
        with pytest.raises(WeightingError, match=message):
            token_advantages(VALUES, np.array([1]), MASK, **{"gamma": 1.0, "lambda_": 1.0, **setting})


def test_an_alpha_out_of_range_is_refused():
    with pytest.raises(WeightingError, match="alpha is 0"):
        length_adaptive_lambda(np.array([3]), 0)


@pytest.mark.parametrize(
    ("values", "is_correct", "mask", "message"),
    [
        (VALUES[0], [1], MASK[0], "rank"),
        (VALUES.astype(int), [1], MASK, "type"),
        (VALUES, [1, 0], MASK, "shape"),
    ],
)
def test_shapes_and_dtypes_are_checked(values, is_correct, mask, message):
    with pytest.raises(AssertionError, match=message):
        token_advantages(values, np.array(is_correct), mask, gamma=1.0, lambda_=0.95)
