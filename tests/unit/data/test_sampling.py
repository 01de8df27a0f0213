"""Batches hold exactly what was asked for, every solution in fair turns, as a pure function of data, settings, step."""

import collections
import itertools
import json
import re

import numpy as np
import pytest

from wmtp_jax.data import DataError, Sampling, length_balanced_pairs, require_labels
from wmtp_jax.data.order import batch_order
from wmtp_jax.data.sampling import sampling_streams

RNG = np.random.default_rng(1)
# 120 problems of 1 to 4 correct and 1 to 6 incorrect solutions.
PROBLEMS = [
    (RNG.integers(5, 90, RNG.integers(1, 5)).tolist(), RNG.integers(5, 90, RNG.integers(1, 7)).tolist())
    for _ in range(120)
]
BUCKETS = (32, 64, 96)
EVERY_KIND = pytest.mark.parametrize(
    "sampling",
    [
        Sampling(correct_ratio=0.25),
        Sampling(pairs=True),
        Sampling(pairs=True, length_balanced=True),
        Sampling(difficulty_weights={"hard": 2.5, "easy": 0.0}),
        Sampling(correct_ratio=0.5, difficulty_weights={"hard": 3.0}),
        Sampling(pairs=True, difficulty_weights={"hard": 3.0}),
    ],
    ids=str,
)


@pytest.fixture(scope="session")
def examples(solutions):
    return solutions(PROBLEMS, ["easy", "medium", "hard"] * 40)


@pytest.fixture
def stream(examples, start):
    return lambda sampling, data=examples, **changes: start(data, sampling=sampling, **changes)


def rows_of(examples, sampling, steps, batch_size=8, seed=5):
    """[steps, batch_size] example numbers."""
    streams = sampling_streams(examples, sampling, batch_size=batch_size, seed=seed)
    order = batch_order(streams, examples.lengths, buckets=BUCKETS, seed=seed)
    return np.stack([order(step) for step in range(steps)])


def epoch_of(examples, sampling):
    """Pairs that an epoch has."""
    (pairs,) = sampling_streams(examples, sampling, batch_size=2, seed=5)
    return int(pairs.n_items)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


@pytest.mark.parametrize(("ratio", "batch_size"), [(0.2, 8), (0.25, 6), (0.5, 7), (0.8, 5)])
def test_every_batch_has_the_ratio_and_every_solution_its_turn(examples, ratio, batch_size):
    drawn = rows_of(examples, Sampling(correct_ratio=ratio), 150, batch_size)
    n_correct = round(ratio * batch_size)
    np.testing.assert_array_equal((examples.is_correct[drawn] == 1).sum(axis=1), n_correct)
    for label, share in ((1, n_correct), (0, batch_size - n_correct)):
        side = np.flatnonzero(examples.is_correct == label)
        visits = np.bincount(drawn.ravel(), minlength=len(examples))[side]
        assert (np.abs(visits - 150 * share / len(side)) <= 4).all()


@EVERY_KIND
def test_batches_are_those_of_their_step_also_after_a_restart_and_in_parts(stream, examples, sampling):
    batches, resumed = stream(sampling), stream(sampling)
    parts = [stream(sampling, process_index=i, process_count=2) for i in range(2)]
    expected = list(itertools.islice(batches, 40))
    for step in np.random.default_rng(0).permutation(40):
        made = [part.batch(step) for part in parts]
        # Each process pads to the same length, for the bucket is that of the global batch.
        assert_equal({name: np.concatenate([part[name] for part in made]) for name in made[0]}, expected[step])
        if sampling.pairs:  # none is torn apart
            assert made[0]["is_correct"].tolist() == [1, 0, 1, 0]
    for batch in expected:
        rows = batch["rows"]
        assert batch["tokens"].shape == (8, min(b for b in BUCKETS if b >= examples.lengths[rows].max()))
        np.testing.assert_array_equal(batch["is_correct"], examples.is_correct[rows])
        np.testing.assert_array_equal(batch["tokens"][:, 0] - 1, rows)  # the token of example i is i + 1
    resumed.set_state(json.loads(json.dumps({"next_step": 17, "fingerprint": batches.fingerprint})))
    for batch, want in zip(itertools.islice(resumed, 23), expected[17:], strict=True):
        assert_equal(batch, want)


def test_labels_are_mixed_within_the_batch(examples):
    labels = examples.is_correct[rows_of(examples, Sampling(correct_ratio=0.5), 200)]
    np.testing.assert_allclose(labels.mean(axis=0), 0.5, atol=0.15)


def test_labels_are_shuffled_apart(solutions):
    # One solution of each label per problem: were both shuffled alike, a batch of two would always be a pair.
    examples = solutions([([9], [9])] * 50)
    drawn = examples.problems[rows_of(examples, Sampling(correct_ratio=0.5), 50, batch_size=2)]
    assert np.sum(drawn[:, 0] == drawn[:, 1]) < 10


@pytest.mark.parametrize("length_balanced", [False, True])
def test_pairs_stand_side_by_side_in_fair_turns(examples, length_balanced):
    sampling = Sampling(pairs=True, length_balanced=length_balanced)
    drawn = rows_of(examples, sampling, 5 * epoch_of(examples, sampling), batch_size=2)
    np.testing.assert_array_equal(examples.is_correct[drawn], np.tile([1, 0], (len(drawn), 1)))
    assert (examples.problems[drawn[:, 0]] == examples.problems[drawn[:, 1]]).all()
    if length_balanced:
        visits = collections.Counter(map(tuple, drawn.tolist()))
        assert set(visits) == set(map(tuple, length_balanced_pairs(examples).tolist()))
        assert all(abs(n - 5) <= 4 for n in visits.values())
    else:
        assert epoch_of(examples, sampling) == sum(min(len(correct), len(wrong)) for correct, wrong in PROBLEMS)
        per_problem = collections.Counter(examples.problems[drawn[:, 0]].tolist())
        expected = [5 * min(len(correct), len(wrong)) for correct, wrong in PROBLEMS]
        assert all(abs(per_problem[i] - n) <= 0.5 * n + 4 for i, n in enumerate(expected))


def test_partners_of_pairs_change_and_all_solutions_come(examples):
    sampling = Sampling(pairs=True)
    drawn = rows_of(examples, sampling, 12 * epoch_of(examples, sampling), batch_size=2)
    n = epoch_of(examples, sampling)
    first, second = ({tuple(pair) for pair in drawn[start : start + n].tolist()} for start in (0, n))
    assert len(first & second) < len(first) / 2
    assert set(drawn.ravel().tolist()) == set(range(len(examples)))


def test_length_stays_balanced_under_weights(solutions):
    rng = np.random.default_rng(2)
    # Easy problems have longer correct solutions, hard ones longer incorrect ones.
    lengths = [(rng.integers(20, 60, 4) + 6 * (i % 2), rng.integers(20, 60, 4) + 6 * (1 - i % 2)) for i in range(300)]
    examples = solutions(lengths, ["hard", "easy"] * 150)
    sampling = Sampling(pairs=True, length_balanced=True, difficulty_weights={"hard": 3})
    drawn = rows_of(examples, sampling, 4 * epoch_of(examples, sampling) // 8, batch_size=16).reshape(-1, 2)
    correct, incorrect = examples.lengths[drawn].T
    assert abs(np.mean(correct > incorrect) - np.mean(correct < incorrect)) < 0.03
    difference = np.subtract.outer(correct, incorrect)
    assert abs(np.mean(difference > 0) + np.mean(difference == 0) / 2 - 0.5) < 0.03


@pytest.mark.parametrize("sampling", [{}, {"correct_ratio": 0.5}, {"pairs": True}], ids=str)
def test_difficulties_are_drawn_by_weight(examples, sampling):
    weights = {"easy": 0.0, "hard": 2.5}
    drawn = rows_of(examples, Sampling(**sampling, difficulty_weights=weights), 250)
    if sampling == {}:
        in_data = np.bincount(examples.difficulty)
    elif "pairs" in sampling:
        in_data = np.bincount(np.arange(120) % 3, [min(map(len, sides)) for sides in PROBLEMS])[[0, 2, 1]]
    else:
        drawn, in_data = (
            drawn[examples.is_correct[drawn] == 1],
            np.bincount(examples.difficulty[examples.is_correct == 1]),
        )
    easy, hard, medium = np.bincount(examples.difficulty[drawn.ravel()], minlength=3)
    assert examples.difficulty_names == ("easy", "hard", "medium")
    assert easy == 0
    assert hard / medium == pytest.approx(2.5 * in_data[1] / in_data[2], rel=0.04)


def test_equal_weights_and_defaults_are_the_stream_without_sampling(stream, examples):
    plain = stream(None)
    default = stream(Sampling())
    assert default.fingerprint == plain.fingerprint
    everywhere_two = stream(Sampling(difficulty_weights=dict.fromkeys(examples.difficulty_names, 2.0)))
    for _ in range(30):
        expected = next(plain)
        assert_equal(next(default), expected)
        assert_equal(next(everywhere_two), expected)


def test_the_fingerprint_tells_samplings_apart_and_orders_of_weights_not(stream):
    kinds = [
        Sampling(correct_ratio=0.5),
        Sampling(correct_ratio=0.25),
        Sampling(pairs=True),
        Sampling(pairs=True, length_balanced=True),
        Sampling(difficulty_weights={"hard": 2.0}),
    ]
    batches = [stream(kind) for kind in kinds]
    for (i, one), (j, other) in itertools.product(enumerate(batches), repeat=2):
        if i != j:
            with pytest.raises(DataError, match="belongs to another stream: sampling was"):
                other.set_state(one.get_state())
    assert Sampling(difficulty_weights=(("b", 1), ("a", 2))) == Sampling(difficulty_weights={"a": 2.0, "b": 1.0})


def test_the_fingerprint_knows_the_token_scores(stream, examples, with_scores):
    one = stream(None, with_scores(examples))
    assert one.fingerprint["examples"] == examples.digest
    with pytest.raises(DataError, match="belongs to another stream: token_scores was"):
        stream(None).set_state(one.get_state())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"correct_ratio": 0.3, "pairs": True}, "correct_ratio is 0.3 but pairs are half correct; set it to 0.5 or"),
        ({"correct_ratio": float("nan")}, "correct_ratio is nan; expected a share of the rows from 0 to 1"),
        ({"length_balanced": True}, "length_balanced chooses among pairs, but pairs is off"),
        ({"difficulty_weights": {"hard": -1}}, r"difficulty_weights are \[\('hard', -1.0\)\]; expected finite numbers"),
        ({"difficulty_weights": {"hard": float("inf")}}, "expected finite numbers of 0 or more"),
    ],
)
def test_settings_that_are_refused(settings, said):
    with pytest.raises(DataError, match=said):
        Sampling(**settings)


ONE_CLASS = [([9, 9, 9, 9], [])]
NO_PAIRS = [([9], []), ([], [9])]
ALWAYS_LONGER = [([9], [5])] * 9


@pytest.mark.parametrize(
    ("problems", "sampling", "changes", "said"),
    [
        (PROBLEMS, Sampling(pairs=True), {"pack": True}, "pack puts several documents into a row but sampling"),
        (PROBLEMS, Sampling(correct_ratio=0.5), {"pack": True}, "pack puts several documents"),
        (PROBLEMS, Sampling(pairs=True), {"batch_size": 7}, "batch_size 7 gives 7 rows .* expected an even number"),
        (PROBLEMS, Sampling(pairs=True), {"batch_size": 6, "process_count": 2}, "gives 3 rows to each of 2"),
        (PROBLEMS, Sampling(correct_ratio=0.05), {}, "which of batch_size 8 is 0 rows; expected at least one row of"),
        (PROBLEMS, Sampling(correct_ratio=0.95), {}, "which of batch_size 8 is 8 rows"),
        (
            PROBLEMS,
            Sampling(difficulty_weights={"hrad": 2}),
            {},
            r"difficulty_weights name 'hrad'; expected difficulties that the data have: \(''",
        ),
        (PROBLEMS, Sampling(difficulty_weights={"": 0}), {}, "only 0 rows of a weight above 0 but every batch takes 8"),
        (ONE_CLASS, Sampling(correct_ratio=0.5), {}, "none of the 4 examples is labelled incorrect"),
        (ONE_CLASS, Sampling(pairs=True), {}, "none of the 4 examples is labelled incorrect"),
        (ONE_CLASS, Sampling(correct_ratio=1.0), {}, "only 4 rows labelled correct but every batch takes 8"),
        (NO_PAIRS, Sampling(pairs=True), {}, "no problem has both a correct and an incorrect solution"),
        (NO_PAIRS, Sampling(pairs=True, length_balanced=True), {}, "no problem has both"),
        (NO_PAIRS, Sampling(correct_ratio=0.5), {}, "only 1 rows labelled correct but every batch takes 4"),
        (ALWAYS_LONGER, Sampling(pairs=True, length_balanced=True), {}, "none of the 9 pairs"),
        ([([9], [5])], Sampling(pairs=True), {}, "only 1 pairs of a correct and an incorrect solution but every"),
    ],
)
def test_data_that_do_not_have_what_is_asked_for(stream, solutions, problems, sampling, changes, said):
    with pytest.raises(DataError, match=said) as error:
        stream(sampling, solutions(problems), **changes)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_labels_are_required_with_the_file_named(solutions, numbered):
    require_labels(solutions([([5], [5])]), "train.jsonl")
    unlabelled = re.escape(
        "train.jsonl: 1 of 5 examples have no label (is_correct null), the first is 'task_2'; expected true or false"
    )
    with pytest.raises(DataError, match=unlabelled):
        require_labels(numbered([5] * 5), "train.jsonl")
    with pytest.raises(DataError, match=r"^train\.jsonl: none of the 2 examples is labelled correct; expected both"):
        require_labels(solutions([([], [5, 6])]), "train.jsonl")


@pytest.mark.parametrize("sampling", [Sampling(correct_ratio=0.5), Sampling(pairs=True)], ids=str)
def test_unlabelled_examples_are_refused_where_labels_count(stream, numbered, sampling):
    with pytest.raises(DataError, match="20 of 60 examples have no label"):
        stream(sampling, numbered([9] * 60))
