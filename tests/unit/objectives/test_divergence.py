"""Divergence from a reference, against the definition over all logits in float64."""

import functools
import math

import jax
import numpy as np
import pytest

from wmtp_jax.data import Example, evaluation_batches, from_examples, make_batches
from wmtp_jax.model import ModelConfig, MTPTransformer, param_shapes
from wmtp_jax.objectives.rho1 import evaluate_divergence

REFERENCE = ModelConfig(dim=12, n_layers=2, n_heads=2, vocab_size=23, ffn_dim=16)
POLICY = ModelConfig(dim=16, n_layers=5, n_heads=4, n_kv_heads=2, vocab_size=23, ffn_dim=24, n_future_tokens=3)


def drawn(config: ModelConfig, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), param_shapes(config))


@pytest.fixture(scope="module")
def policy():
    return MTPTransformer(POLICY), drawn(POLICY, 0)


@pytest.fixture(scope="module")
def reference():
    return MTPTransformer(REFERENCE), drawn(REFERENCE, 1)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    lengths = [4, 19, 11, 7, 15]
    return from_examples(
        [Example(rng.integers(1, 23, n, np.int32), np.arange(n) >= n // 2, True, str(n)) for n in lengths]
    )


@functools.partial(jax.jit, static_argnums=0)
def all_logits(model, params, tokens, segments):
    return model.apply({"params": params}, tokens, segments)


def by_definition(policy, reference, batches) -> tuple[float, float]:
    kls, differences = [], []
    for batch in batches:
        tokens, segments, mask = batch["tokens"], batch["segment_ids"], batch["target_mask"]
        log_laws = []
        for model, params in (policy, reference):
            logits = np.asarray(all_logits(model, params, tokens, segments), np.float64)[:, :, 0]
            log_laws.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
        for b, j in zip(*np.nonzero(mask), strict=True):
            assert segments[b, j - 1] == segments[b, j]
            log_p, log_q = (log_law[b, j - 1] for log_law in log_laws)
            kls.append(np.sum(np.exp(log_p) * (log_p - log_q)))
            differences.append(log_q[tokens[b, j]] - log_p[tokens[b, j]])
    return np.mean(kls), np.mean(differences)


@pytest.mark.parametrize("chunk_length", [1, 8])
def test_means_over_all_target_tokens(policy, reference, examples, chunk_length):
    batches = list(evaluation_batches(examples, batch_size=2, buckets=(20,)))
    measures = evaluate_divergence(*policy, *reference, batches, chunk_length)
    kl, difference = by_definition(policy, reference, batches)
    assert measures == {
        "kl_divergence": pytest.approx(kl, abs=1e-5),
        "reference_loss_diff": pytest.approx(difference, abs=1e-5),
    }
    assert kl > 0.01


def test_packed_rows(policy, reference, examples):
    stream = make_batches(examples, batch_size=2, seed=0, buckets=(20,), pack=True)
    batches = [next(stream) for _ in range(3)]
    stream.close()
    assert max(batch["segment_ids"].max() for batch in batches) > 1
    kl, difference = by_definition(policy, reference, batches)
    measures = evaluate_divergence(*policy, *reference, batches, 8)
    assert measures["kl_divergence"] == pytest.approx(kl, abs=1e-5)
    assert measures["reference_loss_diff"] == pytest.approx(difference, abs=1e-5)


def test_a_policy_does_not_diverge_from_itself(policy, examples):
    batches = evaluation_batches(examples, batch_size=2, buckets=(20,))
    measures = evaluate_divergence(*policy, *policy, batches, 8)
    assert measures["kl_divergence"] == pytest.approx(0, abs=1e-7)
    assert measures["reference_loss_diff"] == 0


def test_only_the_next_token_head_counts(policy, reference, examples):
    model, params = policy
    batches = list(evaluation_batches(examples, batch_size=2, buckets=(20,)))
    changed = params | {"heads": jax.tree.map(lambda leaf: np.concatenate([leaf[:1], 3 * leaf[1:]]), params["heads"])}
    expected = evaluate_divergence(model, params, *reference, batches, 8)
    assert evaluate_divergence(model, changed, *reference, batches, 8) == expected
    changed = params | {"heads": jax.tree.map(lambda leaf: np.concatenate([3 * leaf[:1], leaf[1:]]), params["heads"])}
    assert evaluate_divergence(model, changed, *reference, batches, 8) != expected


def test_padding_does_not_count(policy, reference, examples):
    """Longer rows and more empty ones give the same means."""
    tight, wide = (
        evaluation_batches(examples, batch_size=batch_size, buckets=(length,))
        for batch_size, length in ((2, 20), (8, 40))
    )
    expected = evaluate_divergence(*policy, *reference, tight, 8)
    assert evaluate_divergence(*policy, *reference, wide, 8) == pytest.approx(expected, abs=1e-6)


def test_without_targets_there_is_no_mean(policy, reference, examples):
    batches = evaluation_batches(examples, batch_size=2, buckets=(20,))
    batches = [batch | {"target_mask": np.zeros_like(batch["target_mask"])} for batch in batches]
    assert all(math.isnan(value) for value in evaluate_divergence(*policy, *reference, batches, 8).values())
