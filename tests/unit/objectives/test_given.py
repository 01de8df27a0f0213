"""Weights from the data: from spans of characters to the coefficients of the loss, under every control."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import given
from wmtp_jax.data import load_examples, make_batches
from wmtp_jax.objectives import objective_class
from wmtp_jax.objectives.objective import ObjectiveError
from wmtp_jax.training.loop import device_batch
from wmtp_jax.weighting import init_statistics

N_HEADS = 3


@pytest.fixture
def load(root, tokenizer, tmp_path):
    """Examples of the first 16 records of the embedded tasks, with the weights that a function gives to each."""

    def examples(weights_of):
        with gzip.open(root / "storage/datasets_v2/microcode/valid.jsonl.gz", "rt", encoding="utf-8") as file:
            records = [json.loads(next(file)) for _ in range(16)]
        for record in records:
            if (weights := weights_of(record)) is not None:
                record["weights"] = weights
        path = tmp_path / "records.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return load_examples(path, tokenizer, template="raw", max_length=128, policy_samples="all")

    return examples


def targets_of(examples, objective="given", **weighting):
    """Coefficients of the policy's loss on one batch of all examples, and the batch."""
    config = given.get_config()
    config.objective = objective
    config.data.policy_samples = "all"
    config.weighting.update(weighting)
    rules = objective_class(objective)(config, N_HEADS)
    batches = make_batches(examples, batch_size=16, seed=0, buckets=(128,))
    batch = device_batch(next(batches))
    batches.close()
    targets, _, metrics = rules.policy_targets(
        jax.tree.map(jnp.asarray, batch), {}, init_statistics(), jax.random.key(0)
    )
    return np.asarray(targets["coefficients"]), batch, metrics


def half(record):
    """The first half of the output counts three times as much as the second, which has its own weight."""
    middle = len(record["output"]) // 2
    return [[0, middle, 3.0], [middle, len(record["output"]), 0.5]]


def test_each_head_weighs_the_token_that_it_predicts(load):
    coefficients, batch, metrics = targets_of(load(half))
    weights = batch["weights"]
    assert {0.5, 3.0} <= set(np.round(weights[batch["target_mask"]], 6).tolist())
    for k in range(1, N_HEADS + 1):
        expected = np.where(batch["target_mask"], weights, 0)[:, k:].astype(np.float64)
        expected[batch["segment_ids"][:, :-k] != batch["segment_ids"][:, k:]] = 0
        np.testing.assert_allclose(coefficients[k - 1, :, :-k], expected / expected.sum() / N_HEADS, rtol=1e-5)
    assert float(metrics["weight_max"]) == 3.0


def test_weights_of_one_are_the_baseline_to_the_bit(load):
    ours, *_ = targets_of(load(lambda record: [[0, len(record["output"]), 1.0]]))
    baseline, *_ = targets_of(load(lambda record: None), "baseline")
    np.testing.assert_array_equal(ours, baseline)


@pytest.mark.parametrize("control", ["uniform", "shuffled", "random", "solution_mean"])
@pytest.mark.parametrize("weights_of", [half, lambda record: [[0, len(record["output"]), 0.0]]], ids=["half", "zero"])
def test_every_control_works_with_them(load, control, weights_of):
    """Also where only the end-of-document tokens have a weight."""
    examples = load(weights_of)
    own, batch, _ = targets_of(examples)
    controlled, *_ = targets_of(examples, control=control)
    assert np.isfinite(controlled).all()
    np.testing.assert_allclose(controlled.sum((1, 2)), 1 / N_HEADS, rtol=1e-5)
    head_1 = controlled[0, :, :-1][batch["target_mask"][:, 1:]]
    if control == "uniform":
        baseline, *_ = targets_of(load(lambda record: None), "baseline")
        np.testing.assert_array_equal(controlled, baseline)
    elif control == "shuffled":
        np.testing.assert_allclose(np.sort(head_1), np.sort(own[0, :, :-1][batch["target_mask"][:, 1:]]), rtol=1e-5)
        assert not np.allclose(controlled, own)
    elif control == "solution_mean":
        for row in range(16):
            of_row = controlled[0, row, :-1][batch["target_mask"][row, 1:]]
            np.testing.assert_allclose(of_row, np.full(len(of_row), of_row[0]), rtol=1e-5)
    else:
        assert not np.allclose(controlled, own)


def test_data_without_weights_are_refused(load, tokenizer, tmp_path):
    examples = load(lambda record: None)
    rules = objective_class("given")(given.get_config(), N_HEADS)
    with pytest.raises(ObjectiveError, match=r"microcode/train\.jsonl\.gz: no record has weights; give some"):
        rules.prepare(examples, None, tokenizer, tmp_path)
