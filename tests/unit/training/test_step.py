"""The train step by its properties: micro-batches, weights, padding, packing, bad numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import defaults
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params
from wmtp_jax.objectives import objective_class
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import loss_and_gradients, make_train_step

CONFIG = ModelConfig(dim=16, n_layers=5, n_heads=4, n_kv_heads=2, vocab_size=41, n_future_tokens=3, ffn_dim=22)
MODEL = MTPTransformer(CONFIG)
PARAMS = init_params(CONFIG)
HEAD_WEIGHTS = (0.5, 0.3, 0.2)
LENGTHS = (23, 9, 30, 4, 17, 12)  # rows with very unequal numbers of targets


def objective_of(name, *, accumulation=1, chunk_length=128):
    config = defaults.get_config()
    config.loss.update({"head_weights": HEAD_WEIGHTS, "chunk_length": chunk_length})
    config.train.accumulation = accumulation
    return objective_class(name)(config, len(HEAD_WEIGHTS))


def batch_of(lengths=LENGTHS, padded_to=31, seed=0):
    """One document per row; the first third of each is prompt."""
    rng = np.random.default_rng(seed)
    rows, length = len(lengths), padded_to
    at = np.arange(length)[None]
    ends = np.array(lengths)[:, None]
    return {
        "tokens": jnp.array(np.where(at < ends, rng.integers(1, CONFIG.vocab_size, (rows, length)), 0)),
        "segment_ids": jnp.array(np.broadcast_to(at < ends, (rows, length)).astype(np.int32)),
        "target_mask": jnp.array((at < ends) & (at >= ends // 3)),
    }


def weights_of(batch, seed=1):
    return jax.random.uniform(jax.random.key(seed), batch["tokens"].shape, minval=0.1, maxval=5.0)


def gradients(batch, weights=None, params=PARAMS, **options):
    """Loss, gradients and the number of targets per head; `weights` None is the baseline."""
    objective = objective_of("baseline" if weights is None else "given", **options)
    batch = batch | {"is_correct": jnp.ones(len(batch["tokens"]), int)}
    batch = batch if weights is None else batch | {"weights": weights}
    state = create_state(params, optax.identity())

    @jax.jit
    def compute(params):
        trainable = {"params": params, "value_params": None}
        (loss, sums), grads, targets = loss_and_gradients(MODEL, objective, trainable, batch, state)
        return loss, grads["params"], targets.policy["valid"].sum((1, 2)), sums["nll_N"]

    return compute(params)


def assert_same(ours, theirs, tolerance=2e-5):
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * scale), ours, theirs)


def test_the_loss_is_the_formula_of_the_design():
    batch, weights = batch_of(), weights_of(batch_of())
    log_probabilities = np.asarray(jax.nn.log_softmax(MODEL.apply({"params": PARAMS}, batch["tokens"])), np.float64)
    tokens, mask, segments = (np.asarray(batch[name]) for name in ("tokens", "target_mask", "segment_ids"))
    expected = 0.0
    for k in (1, 2, 3):
        numerator = denominator = 0.0
        for row in range(tokens.shape[0]):
            for t in range(tokens.shape[1] - k):
                if mask[row, t + k] and segments[row, t] == segments[row, t + k] != 0:
                    weight = float(weights[row, t + k])
                    numerator -= weight * log_probabilities[row, t, k - 1, tokens[row, t + k]]
                    denominator += weight
        expected += float(HEAD_WEIGHTS[k - 1]) * numerator / denominator
    loss, *_ = gradients(batch, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_equal_weights_are_the_baseline():
    batch = batch_of()
    loss, grads, *_ = gradients(batch)
    same_loss, same_grads, *_ = gradients(batch, jnp.full(batch["tokens"].shape, 3.7))
    np.testing.assert_allclose(same_loss, loss, rtol=1e-6)
    assert_same(same_grads, grads)


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_micro_batches_are_one_batch_with_unequal_targets_and_weights(accumulation):
    batch = batch_of()
    weights = weights_of(batch)
    whole = gradients(batch, weights)
    assert_same(gradients(batch, weights, accumulation=accumulation), whole)


def test_chunk_length_changes_rounding_only():
    batch = batch_of()
    assert_same(gradients(batch, weights_of(batch), chunk_length=5), gradients(batch, weights_of(batch)))


def test_more_padding_changes_nothing():
    short, long = batch_of(padded_to=30), batch_of(padded_to=30)
    long = {name: jnp.pad(x, ((0, 2), (0, 40))) for name, x in long.items()}
    weights = weights_of(short)
    assert_same(gradients(long, jnp.pad(weights, ((0, 2), (0, 40)), constant_values=9.0)), gradients(short, weights))


def test_packing_changes_nothing():
    batch = batch_of()
    weights = weights_of(batch)
    pieces = {name: [] for name in ("tokens", "target_mask", "segment_ids", "weights")}
    for row, length in enumerate(LENGTHS):
        for name in ("tokens", "target_mask"):
            pieces[name].append(batch[name][row, :length])
        pieces["segment_ids"].append(jnp.full(length, row + 1))
        pieces["weights"].append(weights[row, :length])
    packed = {name: jnp.pad(jnp.concatenate(parts), (0, 7))[None] for name, parts in pieces.items()}
    packed_weights = packed.pop("weights")
    loss, grads, targets, _ = gradients(packed, packed_weights)
    expected_loss, expected_grads, expected_targets, _ = gradients(batch, weights)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_same(grads, expected_grads)
    assert targets.tolist() == expected_targets.tolist()


def test_a_wrong_target_raises_the_loss_of_a_trained_model():
    batch = batch_of(lengths=(8, 8), padded_to=8)
    optimizer = optax.adam(1e-2)
    step = jax.jit(make_train_step(MODEL, objective_of("baseline"), optimizer))
    state = create_state(PARAMS, optimizer)
    for _ in range(60):
        state, metrics = step(state, batch | {"is_correct": jnp.ones(2, int)})
    wrong = batch | {"tokens": batch["tokens"].at[:, -1].add(-1)}
    loss, *_ = gradients(wrong, params=state.params)
    assert float(loss) > float(metrics["loss"]) + 0.5


def test_a_head_without_targets_gives_zero_and_no_nan():
    batch = batch_of(lengths=(2, 2), padded_to=2)
    batch["target_mask"] = jnp.array([[False, True], [False, True]])
    loss, grads, targets, nll_N = gradients(batch)
    assert targets.tolist() == [2, 0, 0]
    np.testing.assert_allclose(loss, HEAD_WEIGHTS[0] * nll_N[0] / 2, rtol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
    assert not np.any(grads["heads"]["attention"]["wq"][1:])


def test_a_batch_without_any_target_changes_no_parameter_by_its_gradient():
    batch = batch_of() | {"target_mask": jnp.zeros((6, 31), bool)}
    loss, grads, *_ = gradients(batch)
    assert float(loss) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_a_non_finite_step_is_skipped_and_counted():
    optimizer = optax.adam(1e-3)
    step = jax.jit(make_train_step(MODEL, objective_of("baseline"), optimizer))
    good, batch = create_state(PARAMS, optimizer), batch_of() | {"is_correct": jnp.ones(6, int)}
    good, _ = step(good, batch)
    poisoned = good.replace(params={**good.params, "norm": {"scale": good.params["norm"]["scale"].at[0].set(jnp.nan)}})
    once, _ = step(poisoned, batch)
    twice, metrics = step(once, batch)
    jax.tree.map(np.testing.assert_array_equal, twice.params, poisoned.params)
    jax.tree.map(np.testing.assert_array_equal, twice.opt_state, poisoned.opt_state)
    assert (int(twice.step), int(metrics["skipped"]), int(metrics["skipped_in_row"])) == (3, 2, 2)
    healed, metrics = step(twice.replace(params=good.params), batch)
    assert (int(metrics["skipped"]), int(metrics["skipped_in_row"])) == (2, 0)
    assert np.any(healed.params["norm"]["scale"] != good.params["norm"]["scale"])
