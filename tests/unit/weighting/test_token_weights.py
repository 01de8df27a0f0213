"""Token weights: numbers by hand, a float64 oracle that sorts instead of bisecting, and the properties they keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weighting_oracle as oracle
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wmtp_jax.weighting import Statistics, WeightingError, init_statistics, token_advantages, token_weights

# The advantages at lambda .95 of the example in test_advantages, and an unweighted prompt token with a wild score.
SCORES = np.array([[99.0, 0.446987, 0.36525, 0.595, 0.1]], np.float32)
MASK = np.array([[0, 1, 1, 1, 1]], bool)
PLAIN = {"normalization": "zscore", "temperature": 1.0, "entropy_floor": 0.0, "clip": None}

FIXED = Statistics(*(np.float32(x) for x in (0.02, 0.05, 0.1)))  # mean .2, variance .46

# Numbers are traced, so that a thousand random settings compile three times only.
weigh = {
    normalization: jax.jit(functools.partial(token_weights, normalization=normalization))
    for normalization in ("zscore", "minmax", "none")
}

advantages = jax.jit(token_advantages)


def weights(scores, mask, *, normalization="zscore", temperature=1.0, entropy_floor=0.0, clip=(0.0, np.inf), **rest):
    clip = tuple(np.float32(bound) for bound in clip)
    compute = weigh[normalization]
    return np.asarray(
        compute(
            np.asarray(scores, np.float32),
            np.asarray(mask),
            temperature=np.float32(temperature),
            entropy_floor=np.float32(entropy_floor),
            clip=clip,
            **rest,
        )
    )


@pytest.mark.parametrize(
    ("changes", "expected", "tolerance"),
    [
        ({}, [0.985761, 0.625638, 2.245523, 0.143078], 1e-5),
        ({"temperature": 0.5}, [0.604872, 0.24365, 3.138736, 0.012743], 1e-5),
        ({"temperature": 0.5, "entropy_floor": 0.7}, [0.6915, 0.4095, 2.6699, 0.2292], 6e-5),
        ({"temperature": 0.5, "clip": (0.25, 2.0)}, [1.247, 0.503, 2.0, 0.25], 6e-4),
    ],
)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_weights_by_hand(transform, changes, expected, tolerance):
    actual = transform(functools.partial(token_weights, **{**PLAIN, **changes}))(SCORES, MASK)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, [[0.0, *expected]], atol=tolerance)


def test_normalised_scores_by_hand():
    # Without clip or floor the logarithms of the weights are the z-scores, up to one constant.
    z = np.array([0.390347, -0.064296, 1.213626, -1.539677])
    logs = np.log(token_weights(SCORES, MASK, **PLAIN)[0, 1:])
    np.testing.assert_allclose(logs - logs.mean(), z, atol=1e-5)
    logs = np.log(token_weights(SCORES, MASK, **{**PLAIN, "normalization": "minmax"})[0, 1:])
    np.testing.assert_allclose(logs - logs.min(), (SCORES[0, 1:] - 0.1) / 0.495, atol=1e-5)
    logs = np.log(token_weights(SCORES, MASK, **{**PLAIN, "normalization": "none"})[0, 1:])
    np.testing.assert_allclose(logs - logs.min(), SCORES[0, 1:] - 0.1, atol=1e-5)


def test_mixing_of_the_entropy_floor_by_hand():
    free = token_weights(SCORES, MASK, **{**PLAIN, "temperature": 0.5})[0, 1:]
    floored = token_weights(SCORES, MASK, **{**PLAIN, "temperature": 0.5, "entropy_floor": 0.7})[0, 1:]
    np.testing.assert_allclose((floored - free) / (1 - free), 0.2192, atol=1e-4)


def test_agrees_with_a_float64_oracle_on_a_thousand_batches():
    rng = np.random.default_rng(1)
    floors, clips = 0, 0
    for _ in range(1000):
        rows = 4
        mask = rng.random((rows, 512)) < rng.choice([0.003, 0.05, 0.9])
        mask[0, rng.integers(512)] = True
        scores = (rng.normal(size=mask.shape) * rng.choice([0.1, 1.0, 3.0])).astype(np.float32)
        chosen = {
            "normalization": rng.choice(["zscore", "minmax", "none"]),
            "temperature": rng.choice([0.3, 1.0, 5.0]),
            "entropy_floor": rng.choice([0.0, 0.01, 0.9, 0.99]),
            "clip": [(0.1, 5.0), (0.0, 1.5), (0.5, 40.0), (0.9, 1.1)][rng.integers(4)],
        }
        expected = oracle.token_weights(scores[mask], **chosen)
        free = oracle.mean_one(oracle.normalized(scores[mask], chosen["normalization"]) / chosen["temperature"])
        floors += oracle.entropy(free) < chosen["entropy_floor"]
        clips += expected.min() == chosen["clip"][0] or expected.max() == chosen["clip"][1]
        actual = weights(scores, mask, **chosen)
        # Clipping may scale a small share of the uniform weights a hundredfold, and fp32 rounding with it.
        np.testing.assert_allclose(actual[mask], expected, atol=1e-5, rtol=1e-4)
        np.testing.assert_array_equal(actual[~mask], 0.0)
    assert floors > 100
    assert clips > 300


@st.composite
def scored(draw, least_tokens=1, largest=10.0):
    """Scores and mask [3, 8] with at least some tokens."""
    mask = np.array(draw(st.lists(st.booleans(), min_size=24, max_size=24))).reshape(3, 8)
    assume(mask.sum() >= least_tokens)
    values = draw(st.lists(st.floats(-largest, largest, width=32), min_size=24, max_size=24))
    return np.array(values, np.float32).reshape(3, 8), mask


normalizations = st.sampled_from(["zscore", "minmax", "none"])
temperatures = st.floats(0.05, 20)
floor_values = st.floats(0, 1)
clips = st.tuples(st.floats(0, 0.95), st.floats(1.05, 20))


@given(scored(), normalizations, temperatures, floor_values, clips)
@settings(deadline=None, max_examples=200)
def test_clip_bounds_and_mean_one_hold_together(batch, normalization, temperature, floor, clip):
    scores, mask = batch
    w = weights(scores, mask, normalization=normalization, temperature=temperature, entropy_floor=floor, clip=clip)
    low, high = np.float32(clip)
    np.testing.assert_allclose(w[mask].mean(dtype=np.float64), 1.0, atol=1e-5)
    assert w[mask].min() >= low
    assert w[mask].max() <= high
    np.testing.assert_array_equal(w[~mask], 0.0)
    # A larger score never has a smaller weight.
    assert np.all(np.diff(w[mask][np.argsort(scores[mask], kind="stable")]) >= -1e-6)


@given(scored(least_tokens=2, largest=3.0), temperatures, floor_values)
@settings(deadline=None, max_examples=200)
def test_entropy_floor_is_reached_and_not_overshot(batch, temperature, floor):
    scores, mask = batch
    free = weights(scores, mask, normalization="none", temperature=temperature)[mask]
    floored = weights(scores, mask, normalization="none", temperature=temperature, entropy_floor=floor)[mask]
    if oracle.entropy(free) >= floor:
        np.testing.assert_allclose(floored, free, atol=1e-5)
    else:
        np.testing.assert_allclose(oracle.entropy(floored), floor, atol=3e-6)


@given(st.floats(-(2.0**100), 2.0**100, width=32), normalizations, temperatures, floor_values, clips)
@settings(deadline=None, max_examples=50)
def test_equal_scores_give_exactly_ones(score, normalization, temperature, floor, clip):
    mask = np.arange(24).reshape(3, 8) % 7 != 3
    w = weights(
        np.full((3, 8), score),
        mask,
        normalization=normalization,
        temperature=temperature,
        entropy_floor=floor,
        clip=clip,
    )
    np.testing.assert_array_equal(w, mask.astype(np.float32))


@given(scored(), normalizations)
@settings(deadline=None, max_examples=50)
def test_temperature_to_infinity_gives_ones(batch, normalization):
    scores, mask = batch
    np.testing.assert_array_equal(weights(scores, mask, normalization=normalization, temperature=np.inf), mask)
    near = weights(scores, mask, normalization=normalization, temperature=1e6)
    np.testing.assert_allclose(near, mask, atol=1e-4)


@pytest.mark.parametrize("normalization", ["zscore", "minmax", "none"])
def test_one_token_gives_one_and_no_token_gives_zeros(normalization):
    with jax.debug_nans(True):
        for clip in (None, (0.1, 5.0)):
            chosen = {"normalization": normalization, "temperature": 0.5, "entropy_floor": 0.5, "clip": clip}
            one = np.zeros((1, 5), bool)
            one[0, 2] = True
            np.testing.assert_array_equal(token_weights(SCORES, one, **chosen), one)
            np.testing.assert_array_equal(token_weights(SCORES, np.zeros((1, 5)), **chosen), np.zeros((1, 5)))


@given(scored(), st.permutations(range(24)), normalizations, clips)
@settings(deadline=None, max_examples=100)
def test_permuting_the_batch_permutes_the_weights(batch, order, normalization, clip):
    scores, mask = batch
    order = np.array(order)
    shuffle = lambda x: x.ravel()[order].reshape(x.shape)
    chosen = {"normalization": normalization, "entropy_floor": 0.5, "clip": clip}
    np.testing.assert_allclose(
        weights(shuffle(scores), shuffle(mask), **chosen), shuffle(weights(scores, mask, **chosen)), atol=1e-5
    )


@given(scored(), normalizations, clips)
@settings(deadline=None, max_examples=100)
def test_padding_changes_nothing(batch, normalization, clip):
    scores, mask = batch
    chosen = {"normalization": normalization, "entropy_floor": 0.5, "clip": clip}
    pad = lambda x, fill: np.pad(x, ((0, 1), (0, 3)), constant_values=fill)
    padded = weights(pad(scores, np.nan), pad(mask, False), **chosen)
    np.testing.assert_allclose(padded[:3, :8], weights(scores, mask, **chosen), rtol=1e-5, atol=1e-6)
    assert not padded[3:].any()
    assert not padded[:, 8:].any()


def test_weights_carry_no_gradient():
    total = lambda scores: (token_weights(scores, MASK, **{**PLAIN, "clip": (0.25, 2.0)}) * jnp.arange(5.0)).sum()
    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(SCORES)), np.zeros((1, 5)))


@given(
    st.lists(st.floats(0, 1, width=32), min_size=24, max_size=24),
    st.integers(0, 2),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.booleans(),
    temperatures,
)
@settings(deadline=None, max_examples=100)
def test_a_failed_solution_weighs_less_than_the_same_solution_passed(values, row, outcomes, running, temperature):
    """At lambda = gamma = 1 without clip, with scores as they are or fixed statistics."""
    values, is_correct = np.array(values, np.float32).reshape(3, 8), np.array(outcomes)
    mask = np.zeros((3, 8), bool)
    for b, (first, last) in enumerate([(1, 3), (4, 8), (2, 7)]):
        mask[b, first:last] = True
    rest = {"statistics": FIXED} if running else {}
    of_row = []
    for is_correct[row] in (True, False):
        scores = advantages(values, is_correct, mask, gamma=1.0, lambda_=1.0)
        normalization = "zscore" if running else "none"
        w = weights(scores, mask, normalization=normalization, temperature=temperature, **rest)
        of_row.append(w[row, mask[row]])
    passed, failed = of_row
    assert np.all(failed < passed) or np.all(failed[passed < 1e-30] == 0)
    assert failed.sum() < passed.sum()


def test_huge_scores_and_a_million_tokens_stay_finite_and_exact():
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((512, 2048)).astype(np.float32)
    mask = np.ones(scores.shape, bool)
    chosen = {"temperature": 0.5, "entropy_floor": 0.98, "clip": (0.1, 5.0)}
    expected = oracle.token_weights(scores.ravel(), normalization="zscore", **chosen)
    for scale, offset in ((1.0, 0.0), (1e30, 0.0), (1e-3, 0.0)):
        actual = weights(scores * np.float32(scale) + np.float32(offset), mask, **chosen).ravel()
        # Scores of 1e-3 feel the 1e-12 under the root: one part in 2 million.
        np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(actual.mean(dtype=np.float64), 1.0, atol=1e-6)


def test_a_large_common_offset_does_not_move_the_weights():
    scores = np.arange(8, dtype=np.float32).reshape(1, 8)
    mask = np.ones((1, 8), bool)
    np.testing.assert_allclose(weights(scores + 2.0**20, mask), weights(scores, mask), rtol=1e-5)


@pytest.mark.parametrize("normalization", ["zscore", "minmax", "none"])
def test_ratios_that_fp32_cannot_hold_still_meet_bounds_and_mean(normalization):
    # One token takes the upper bound 5; the nine others share what is left, however far behind they are.
    scores = np.array([[0.0] + 9 * [-1e30]])
    w = weights(scores, np.ones((1, 10), bool), normalization=normalization, temperature=0.01, clip=(0.1, 5.0))
    np.testing.assert_allclose(w, [[5.0] + 9 * [5 / 9]], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_a_number_shows_in_every_weight(bad):
    scores = SCORES.copy()
    scores[0, 2] = bad
    for normalization in ("zscore", "none"):
        w = weights(scores, MASK, normalization=normalization, entropy_floor=0.5, clip=(0.1, 5.0))
        assert np.all(np.isnan(w[MASK]))


def test_masks_of_numbers_and_low_precision_scores_are_accepted():
    expected = token_weights(SCORES, MASK, **PLAIN)
    np.testing.assert_array_equal(token_weights(SCORES, MASK.astype(np.float32), **PLAIN), expected)
    low = token_weights(jnp.asarray(SCORES, jnp.bfloat16), MASK, **PLAIN)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, expected, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"normalization": "softmax"}, "normalization is 'softmax', expected one of zscore, minmax, none"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a positive number"),
        ({"temperature": -1}, "temperature is -1"),
        ({"entropy_floor": 1.5}, "entropy_floor is 1.5, expected a share"),
        ({"clip": (0.5, 0.9)}, "clip is .* expected two bounds"),
        ({"clip": (-0.1, 2.0)}, "clip is"),
        ({"clip": (1.0, 2.0)}, "clip is"),
        ({"clip": (2.0,)}, "clip is"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes, sentence):
    with pytest.raises(WeightingError, match=sentence):
        token_weights(SCORES, MASK, **{**PLAIN, **changes})


def test_statistics_without_a_z_score_are_refused():
    with pytest.raises(WeightingError, match="only 'zscore' uses them"):
        token_weights(SCORES, MASK, **{**PLAIN, "normalization": "none"}, statistics=init_statistics())


def test_shapes_are_checked():
    with pytest.raises(AssertionError, match="rank"):
        token_weights(SCORES[0], MASK[0], **PLAIN)
    with pytest.raises(AssertionError, match="shape"):
        token_weights(SCORES, MASK[:, :4], **PLAIN)
