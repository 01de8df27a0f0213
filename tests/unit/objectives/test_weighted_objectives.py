"""The weighted step by its properties: micro-batches, order, padding, gradients, controls, and what is imitated.

The critic of most tests adds a table of value logits to its head, so that a test can say what the values are.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from wmtp_jax.model import ModelConfig, MTPTransformer, ValueHead, init_params
from wmtp_jax.objectives import objective_class
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.objectives.objective import Objective
from wmtp_jax.training.optimizer import make_optimizer
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import loss_and_gradients, make_train_step
from wmtp_jax.weighting import init_statistics, update_statistics

CONFIG = ModelConfig(dim=8, n_layers=3, n_heads=2, vocab_size=13, n_future_tokens=2, ffn_dim=10)
MODEL = MTPTransformer(CONFIG)
HEAD_WEIGHTS = (0.7, 0.3)
# Rows 2i and 2i + 1 are a right and a wrong solution of one problem; micro-batches get very unequal numbers of targets.
LENGTHS, PROMPTS = (16, 9, 5, 14, 12, 16, 7, 3), (4, 2, 1, 6, 5, 1, 3, 1)
B, S = len(LENGTHS), 16
KEY = jax.random.key(3)


@dataclasses.dataclass(frozen=True)
class TableCritic(Critic):
    """A head, plus a table of value logits [B, S] that rows look themselves up in."""

    def value_logits(self, value_params, batch, normed_trunk_BxSxD, features_BxSx3):
        of_head = super().value_logits(value_params, batch, normed_trunk_BxSxD, features_BxSx3)
        return of_head + jnp.pad(value_params["table"][batch["row"]], ((0, 0), (0, of_head.shape[1] - S)))


CRITIC = TableCritic(ValueHead(0), surprise=True, trunk_gradient=0.0)


def objective_of(critic=None, objective="verifiable", **groups) -> Objective:
    config = defaults.get_config()
    config.objective = objective
    config.loss.head_weights = HEAD_WEIGHTS
    for group, fields in groups.items():
        config[group].update(fields)
    options = {"critic": critic} if critic else {}
    return objective_class(objective)(config, len(HEAD_WEIGHTS), **options)


@functools.cache
def running(accumulation: int = 1) -> Objective:
    """With running statistics and pairs."""
    return objective_of(
        CRITIC, weighting={"statistics": "ema"}, data={"pairs": True}, train={"accumulation": accumulation}
    )


def batch_of(padded_to=S) -> dict:
    rng = np.random.default_rng(0)
    tokens, reference = rng.integers(1, CONFIG.vocab_size, (B, S)), rng.gamma(3, 1, (B, S)).astype(np.float32)
    at, ends, prompts = np.arange(padded_to)[None], np.array(LENGTHS)[:, None], np.array(PROMPTS)[:, None]
    fill = lambda x: np.where(at < ends, np.pad(x, ((0, 0), (0, padded_to - S))), 0)
    return {
        "tokens": fill(tokens),
        "segment_ids": (at < ends).astype(np.int32),
        "target_mask": (at < ends) & (at >= prompts),
        "is_correct": np.array([1, 0] * (B // 2)),
        "reference_nll": fill(reference),
        "row": np.arange(B),
    }


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG)


@pytest.fixture(scope="module")
def value_params():
    """A head away from 0 and a table that spreads the values over (0, 1)."""
    rng = np.random.default_rng(1)
    head = CRITIC.init(jax.random.key(0), MODEL)["head"]
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32)
    return {"head": jax.tree.map(draw, head), "table": jnp.asarray(rng.normal(0, 1, (B, S)), jnp.float32)}


@pytest.fixture(scope="module")
def used():
    """Statistics that have seen advantages."""
    return update_statistics(init_statistics(), jnp.array([[0.4, -0.1, 0.2]]), jnp.ones((1, 3)), decay=0.9)


_compiled = {}


def gradients(objective, params, value_params, batch, *, statistics=None, slow=None):
    """((loss, sums), gradients, targets) of one step; compiled once per objective and shape."""
    key = objective, batch["tokens"].shape
    if key not in _compiled:
        compute = lambda *inputs: loss_and_gradients(MODEL, objective, *inputs)
        # Without optimisation: these programs are small, and compiling them is what takes time.
        _compiled[key] = jax.jit(compute, compiler_options={"xla_backend_optimization_level": 0})
    state = create_state(params, make_optimizer(objective.config.optimizer, 9))
    slow = value_params if slow is None else slow
    state = state.replace(statistics=statistics or init_statistics(), target_value_params=slow)
    return _compiled[key]({"params": params, "value_params": value_params}, batch, state)


def assert_same(ours, theirs, tolerance=2e-5):
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    assert scale > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0), ours, theirs)


def coefficients(result) -> np.ndarray:
    return np.moveaxis(np.asarray(result[2].policy["coefficients"]), 1, 0)


@pytest.fixture(scope="module")
def whole(params, value_params, used):
    """The step of one batch with running statistics."""
    slow = jax.tree.map(lambda x: 0.7 * x, value_params)
    return gradients(running(), params, value_params, batch_of(), statistics=used, slow=slow)


@pytest.mark.parametrize("accumulation", [2, 4])
def test_micro_batches_give_the_weights_and_the_step_of_one_batch(params, value_params, used, whole, accumulation):
    """There the weights come from a pass of their own; here from the trained pass. So they carry no gradient, too."""
    slow, batch = jax.tree.map(lambda x: 0.7 * x, value_params), batch_of()
    parts = gradients(running(accumulation), params, value_params, batch, statistics=used, slow=slow)
    (loss, sums), grads, targets = parts
    np.testing.assert_allclose(coefficients(parts), coefficients(whole), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(loss, whole[0][0], rtol=1e-5)
    np.testing.assert_allclose(sums["value_loss"], whole[0][1]["value_loss"], rtol=1e-5)
    assert_same(grads, whole[1])
    assert_same(grads["value_params"], whole[1]["value_params"])
    assert_same(targets.statistics, whole[2].statistics, 1e-6)
    fresh = [gradients(running(k), params, value_params, batch, slow=slow) for k in (1, accumulation)]
    np.testing.assert_allclose(coefficients(fresh[1]), coefficients(fresh[0]), rtol=1e-4, atol=1e-9)
    assert_same(fresh[1][1], fresh[0][1])
    assert np.abs(coefficients(fresh[0]) - coefficients(whole)).max() > 1e-3  # the batch's own statistics are others


def test_the_order_of_pairs_in_the_batch_does_not_matter(params, value_params, used, whole):
    order = np.array([4, 5, 0, 1, 6, 7, 2, 3])
    batch = {name: x[order] for name, x in batch_of().items()}
    slow = jax.tree.map(lambda x: 0.7 * x, value_params)
    permuted = gradients(running(), params, value_params, batch, statistics=used, slow=slow)
    np.testing.assert_allclose(coefficients(permuted), coefficients(whole)[order], rtol=1e-5)
    assert_same(permuted[1], whole[1])


def test_a_longer_bucket_changes_nothing(params, value_params, used, whole):
    slow = jax.tree.map(lambda x: 0.7 * x, value_params)
    longer = gradients(running(), params, value_params, batch_of(padded_to=23), statistics=used, slow=slow)
    np.testing.assert_allclose(coefficients(longer)[..., :S], coefficients(whole), rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(coefficients(longer)[..., S:], 0)
    assert_same(longer[1], whole[1])


def test_only_the_states_before_response_tokens_have_a_gradient(params, value_params, whole):
    """The value at the last response token is neither read nor trained: no gradient, and moving it moves nothing."""
    batch = batch_of()
    mask = batch["target_mask"]
    states = np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    gradient = np.asarray(whole[1]["value_params"]["table"])
    np.testing.assert_array_equal(gradient[~states], 0)
    assert np.count_nonzero(gradient[states]) > 0.5 * states.sum()  # some clipped states have none
    ends = mask & ~np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    moved = {**value_params, "table": value_params["table"] + jnp.where(~states, 5.0, 0.0)}
    assert np.all(~states[ends])
    jax.tree.map(
        np.testing.assert_array_equal,
        gradients(running(), params, moved, batch)[:2],
        gradients(running(), params, value_params, batch, slow=moved)[:2],
    )


def test_constant_advantages_are_the_baseline(params, value_params):
    """A critic that is sure of the right solutions finds no token better than expected; of the wrong ones it learns.

    What it learns does not reach the policy either: `trunk_gradient` is 0.
    """
    batch = batch_of()
    sure = jnp.where(batch["is_correct"][:, None] == 1, 40.0, value_params["table"])
    ours = gradients(running(), params, {**value_params, "table": sure}, batch, slow=value_params)
    baseline = gradients(objective_of(objective="baseline"), params, None, batch)
    np.testing.assert_array_equal(coefficients(ours), coefficients(baseline))
    np.testing.assert_allclose(ours[0][1]["cross_entropy"], baseline[0][0], rtol=1e-6)
    assert_same(ours[1]["params"], baseline[1]["params"], 1e-6)
    assert np.any(ours[1]["value_params"]["head"]["value"]["kernel"])
    assert not np.array_equal(coefficients(gradients(running(), params, value_params, batch)), coefficients(baseline))


def planned(objective, value_logits=None, features=None, batch=None, key=KEY):
    """Weights [B, S] and metrics of `policy_targets`, from head 1's coefficients."""
    batch = batch or batch_of()
    rng = np.random.default_rng(5)
    scores = {
        "value_logits": jnp.asarray(rng.normal(0, 1, (B, S)), jnp.float32) if value_logits is None else value_logits,
        "features": jnp.asarray(rng.normal(-2, 1, (B, S, 3)), jnp.float32) if features is None else features,
    }
    batch = jax.tree.map(jnp.asarray, batch)
    targets, _, metrics = objective.policy_targets(batch, scores, init_statistics(), key)
    of_head_1 = np.asarray(targets["coefficients"])[0] / HEAD_WEIGHTS[0]
    total = np.asarray(objective.policy_mask(batch)).sum() if objective.config.rho1.mode == "weighted" else 1.0
    return np.pad(of_head_1[:, :-1], ((0, 0), (1, 0))) * total, targets, metrics


@pytest.fixture(scope="module")
def critics():
    """The critic's own weights, and the tokens that are imitated."""
    objective = objective_of()
    return planned(objective)[0], np.asarray(objective.policy_mask(batch_of()))


def test_incorrect_solutions_are_imitated_only_when_asked_for(critics):
    weights, imitated = critics
    batch = batch_of()
    np.testing.assert_array_equal(imitated, batch["target_mask"] & (batch["is_correct"] == 1)[:, None])
    np.testing.assert_array_equal(weights != 0, imitated)
    np.testing.assert_allclose(weights[imitated].mean(), 1, rtol=1e-5)
    of_all, *_ = planned(objective_of(data={"policy_samples": "all"}))
    np.testing.assert_array_equal(of_all != 0, batch["target_mask"])
    np.testing.assert_allclose(of_all[batch["target_mask"]].mean(), 1, rtol=1e-5)
    right, wrong = (of_all[batch["target_mask"] & (batch["is_correct"] == r)[:, None]].mean() for r in (1, 0))
    assert right > 1.5 * wrong
    unlabelled = batch | {"is_correct": np.full(B, -1)}
    np.testing.assert_array_equal(objective_of(objective="baseline").policy_mask(unlabelled), batch["target_mask"])


def test_uniform_is_the_baseline_to_the_bit():
    for samples in ("correct", "all"):
        data = {"policy_samples": samples}
        _, ours, metrics = planned(objective_of(weighting={"control": "uniform"}, data=data))
        _, baseline, _ = planned(objective_of(objective="baseline", data=data))
        jax.tree.map(np.testing.assert_array_equal, ours, baseline)
        assert float(metrics["weight_std"]) == 0


def test_shuffled_are_the_critics_weights_elsewhere(critics):
    weights, imitated = critics
    shuffled, *_ = planned(objective_of(weighting={"control": "shuffled"}))
    np.testing.assert_allclose(np.sort(shuffled[imitated]), np.sort(weights[imitated]), rtol=1e-5)
    assert np.mean(np.isclose(shuffled[imitated], weights[imitated])) < 0.5
    other, *_ = planned(objective_of(weighting={"control": "shuffled"}), key=jax.random.key(4))
    assert not np.allclose(other, shuffled)


def test_random_has_the_critics_bounds_and_mean_but_other_values(critics):
    weights, imitated = critics
    low, high = objective_of().config.weighting.clip
    drawn, *_ = planned(objective_of(weighting={"control": "random"}))
    np.testing.assert_allclose(drawn[imitated].mean(), 1, rtol=1e-5)
    assert drawn[imitated].min() >= low * (1 - 1e-5)
    assert drawn[imitated].max() <= high * (1 + 1e-5)
    assert 0.3 < drawn[imitated].std() / weights[imitated].std() < 3
    assert abs(np.corrcoef(drawn[imitated], weights[imitated])[0, 1]) < 0.5


def test_solution_mean_keeps_each_solutions_share(critics):
    weights, imitated = critics
    mean, *_ = planned(objective_of(weighting={"control": "solution_mean"}))
    for row in np.flatnonzero(imitated.any(1)):
        own = mean[row, imitated[row]]
        np.testing.assert_allclose(own, np.full(len(own), weights[row, imitated[row]].mean()), rtol=1e-4)


def test_rho1_top_k_keeps_exactly_the_stated_number():
    for fraction in (0.25, 0.6):
        objective = objective_of(objective="rho1", rho1={"mode": "top_k", "keep_fraction": fraction})
        kept, _, metrics = planned(objective)
        assert np.count_nonzero(kept) == round(fraction * np.asarray(objective.policy_mask(batch_of())).sum())
        assert len({*np.round(kept[kept != 0], 6)}) == 1
        assert "reference_loss_diff" in metrics


@pytest.fixture(scope="module")
def next_token_run(params, value_params):
    """Three steps of the next-token head alone, with weight decay and a critic that goes on."""
    objective = objective_of(CRITIC, loss={"heads": "next_token"})
    optimizer = make_optimizer(objective.config.optimizer, 9, freeze=["norm"], head_weights=objective.head_weights)
    value_optimizer = make_optimizer(objective.config.critic.stage2_optimizer, 9)
    state = create_state(params, optimizer, value_params=value_params, value_optimizer=value_optimizer)
    step = make_train_step(MODEL, objective, optimizer, value_optimizer)
    step, states = jax.jit(step, compiler_options={"xla_backend_optimization_level": 0}), [state]
    for _ in range(3):
        state, metrics = step(state, batch_of())
        states.append(state)
    return states, metrics


def test_next_token_leaves_the_other_heads_bit_identical(next_token_run, params):
    states, metrics = next_token_run
    after = states[-1].params
    for before, leaf in zip(jax.tree.leaves(params["heads"]), jax.tree.leaves(after["heads"]), strict=True):
        np.testing.assert_array_equal(leaf[1:], before[1:])
        assert not np.array_equal(leaf[0], before[0])
    for before, leaf in zip(jax.tree.leaves(params["trunk"]), jax.tree.leaves(after["trunk"]), strict=True):
        assert not np.array_equal(leaf, before)
    assert metrics["loss_head_2"] > 0


def test_what_is_frozen_stays(next_token_run, params):
    states, _ = next_token_run
    np.testing.assert_array_equal(states[-1].params["norm"]["scale"], params["norm"]["scale"])


def test_the_critic_goes_on_and_its_slow_copy_follows(next_token_run):
    states, metrics = next_token_run
    fast = [state.value_params["head"]["value"]["kernel"] for state in states]
    slow = [state.target_value_params["head"]["value"]["kernel"] for state in states]
    np.testing.assert_array_equal(slow[0], fast[0])
    decay = defaults.get_config().critic.target_decay
    for i in (1, 2, 3):
        assert i == 1 or not np.array_equal(fast[i], fast[i - 1])  # the warm-up starts at a rate of 0
        np.testing.assert_allclose(slow[i], decay * slow[i - 1] + (1 - decay) * fast[i], rtol=1e-5, atol=1e-7)
    assert {"value_loss", "td_error_mean", "td_error_std", "value_explained_variance"} <= metrics.keys()
    assert {"weight_mean", "weight_entropy", "effective_sample_size", "weight_position_correlation"} <= metrics.keys()
