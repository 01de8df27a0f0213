"""From scores to outcomes: their place in the data, the texts they belong to, and what the critic reads of them."""

import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.data import DataError, Example, evaluation_batches, from_examples, load_examples
from wmtp_jax.objectives.reward_model import Solutions, agreement, reward_outcomes, with_outcomes
from wmtp_jax.objectives.verifiable import outcomes


@pytest.fixture
def examples():
    """Three documents of 5, 3 and 6 tokens."""
    return from_examples(
        [
            Example(np.arange(1, n + 1), np.arange(n) >= 2, label, f"t_{n}")
            for n, label in ((5, True), (3, None), (6, False))
        ]
    )


def test_outcomes_are_bradley_terry_probabilities():
    """Against the median: one half for the median itself, odds e^d for a score d above it."""
    found = reward_outcomes(np.array([-1.5, -1.5 + np.log(3), -1.5 - np.log(3), 900.0, -900.0]), median=-1.5)
    np.testing.assert_allclose(found, [0.5, 0.75, 0.25, 1.0, 0.0], rtol=1e-6)
    assert found.dtype == np.float32


def test_outcomes_come_with_batches_and_become_labels(examples):
    judged = with_outcomes(examples, np.array([0.25, 0.5, 0.75], np.float32))
    assert judged.is_correct.tolist() == [0, 0, 1]
    assert examples.is_correct.tolist() == [1, -1, 0]
    (batch,) = evaluation_batches(judged, batch_size=4, buckets=(8,))
    np.testing.assert_array_equal(outcomes(batch), np.array([0.25, 0.5, 0.75, 0.0], np.float32))
    assert batch["is_correct"].tolist() == [0, 0, 1, -1]


def test_without_a_reward_model_the_outcome_is_the_label():
    assert outcomes({"is_correct": jnp.array([1, 0, -1], jnp.int8)}).tolist() == [1.0, 0.0, 0.0]


def test_agreement_with_known_outcomes():
    """Of the four pairs of a correct and an incorrect solution two are in order."""
    scores = np.array([3.0, 1.0, 2.0, 0.0, 9.0])
    assert "4 known outcomes 0.500" in agreement(scores, np.array([1, 0, 0, 1, -1]))
    assert agreement(scores, np.array([1, 1, -1, -1, -1])) == "no known outcomes to compare the scores with"


def write_records(path, records) -> None:
    fields = {"instruction": "", "input": "", "output": "x", "task_id": "t", "is_correct": True, "metadata": {}}
    data = "".join(json.dumps(fields | record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


RECORDS = [
    {"instruction": "one", "output": "y" * 400, "task_id": "a"},
    {"instruction": "one", "output": "short", "task_id": "a"},
    {"instruction": "two", "input": "3 4", "output": "also", "task_id": "b"},
    {"instruction": "wrong", "output": "no", "task_id": "b", "is_correct": False},
    {"instruction": "one", "output": "other", "task_id": "a"},
]


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_texts_of_the_examples_that_were_kept(name, tokenizer, tmp_path, monkeypatch):
    """Records that were left out (over-long, incorrect) are skipped, also where they share a task id."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / name
    write_records(path, RECORDS)
    examples = load_examples(path, tokenizer, template="alpaca", max_length=300)
    assert examples.counts.over_length == examples.counts.incorrect == 1
    expected = [("one", "short"), ("two\n3 4", "also"), ("one", "other")]
    assert list(Solutions(examples)) == expected


def test_a_file_that_changed_since_is_refused(tokenizer, tmp_path):
    path = tmp_path / "data.jsonl.gz"
    write_records(path, RECORDS)
    examples = load_examples(path, tokenizer, template="alpaca", max_length=300)
    write_records(path, RECORDS[:4])
    with pytest.raises(DataError, match=":5: the line is not the one that was there"):
        list(Solutions(examples))
