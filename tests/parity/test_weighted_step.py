"""The whole weighted step against torch: advantages, weights, losses and the gradient of every parameter.

Four solutions of unequal length and prompt (up to 540 tokens), two right and two wrong, on random models of odd sizes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import torch
import weighted_step as oracle
import weighting_oracle
from torch_trees import meta_state_dict

from configs import defaults
from vendor.meta_llama import ModelArgs, Transformer
from wmtp_jax.model import MTPTransformer, ValueHead
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.objectives.rho1 import Rho1
from wmtp_jax.objectives.verifiable import Verifiable
from wmtp_jax.training.state import TrainState
from wmtp_jax.training.step import loss_and_gradients
from wmtp_jax.weighting import Statistics, length_adaptive_lambda, token_advantages

ENDS, PROMPTS, S = (540, 301, 77, 418), (60, 11, 40, 203), 547
RUNNING = Statistics(jnp.float32(0.02), jnp.float32(0.05), jnp.float32(0.4))  # mean .05, variance .1225
CASES = {
    "linear head with surprise, bce, ranking, running statistics": {
        "model": {"n_layers": 3, "n_future_tokens": 1, "tie_embeddings": True},
        "critic": {"loss": "bce", "width": 0, "trunk_gradient": 0.3, "ranking_coef": 0.7},
        "weighting": {"statistics": "ema"},
        "data": {"pairs": True},
    },
    "hidden layer on the trunk alone, clipped, lambda returns, all samples": {
        "model": {"n_layers": 6, "n_future_tokens": 4, "tie_embeddings": False},
        "critic": {"width": 5, "surprise": False, "trunk_gradient": 1.0, "returns": "lambda", "lambda_alpha": 0.05}
        | {"gamma": 0.999, "value_clip": 0.2, "value_coef": 0.5},
        "weighting": {"temperature": 0.4, "entropy_floor": 0.95, "clip": (0.3, 2.5)},
        "data": {"policy_samples": "all"},
    },
    "rho1, weighted": {
        "model": {"n_layers": 6, "n_future_tokens": 4, "tie_embeddings": True},
        "weighting": {"temperature": 2.0, "clip": (0.2, 3.0)},
    },
    "rho1, top_k": {
        "model": {"n_layers": 3, "n_future_tokens": 1, "tie_embeddings": False},
        "rho1": {"mode": "top_k", "keep_fraction": 0.37},
        "data": {"policy_samples": "all"},
    },
}


def config_of(case: dict, objective: str) -> ml_collections.FrozenConfigDict:
    config = defaults.get_config()
    config.objective = objective
    config.loss.chunk_length = 100
    for group in ("critic", "weighting", "data", "rho1", "loss"):
        config[group].update(case.get(group, {}))
    return ml_collections.FrozenConfigDict(config)


def batch_of(vocab_size: int) -> dict:
    rng = np.random.default_rng(1)
    at, ends, prompts = np.arange(S)[None], np.array(ENDS)[:, None], np.array(PROMPTS)[:, None]
    return {
        "tokens": np.where(at < ends, rng.integers(0, vocab_size, (len(ENDS), S)), 0),
        "segment_ids": (at < ends).astype(np.int32),
        "target_mask": (at < ends) & (at >= prompts),
        "is_correct": np.array([1, 0, 1, 0]),
        "reference_nll": rng.gamma(4.0, 1.2, (len(ENDS), S)).astype(np.float32),
    }


def random_head(critic: Critic, model: MTPTransformer, seed: int) -> dict:
    """Value parameters with values far from one half."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: critic.init(jax.random.key(0), model))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes)


class Seen(Verifiable):
    """Shows the value logits that the weights were made of."""

    def weights(self, batch, scores, mask_BxS, statistics):
        weights_BxS, statistics, metrics = super().weights(batch, scores, mask_BxS, statistics)
        return weights_BxS, statistics, metrics | {"value_logits": scores["value_logits"]}


class Both:
    """One case, computed by the product and by the oracle."""

    def __init__(self, name: str, new_case):
        case = CASES[name]
        random_model = new_case(n_kv_heads=3, **case["model"])
        self.model_config, self.params = random_model.config, random_model.params
        N = self.model_config.n_future_tokens
        self.head_weights = tuple(float(x) for x in np.arange(N, 0, -1) / (N * (N + 1) / 2))
        case = case | {"loss": {"head_weights": self.head_weights}}
        self.config = config_of(case, "rho1" if name.startswith("rho1") else "verifiable")
        self.batch = batch_of(self.model_config.vocab_size)
        self.value_params = self.slow = None
        self.imitated = self.batch["target_mask"].copy()
        if self.config.data.policy_samples == "correct":
            self.imitated[self.batch["is_correct"] == 0] = False
        self.run_product()
        self.run_oracle()

    def run_product(self):
        model, settings = MTPTransformer(self.model_config), self.config.critic
        if self.config.objective == "verifiable":
            critic = Critic(ValueHead(settings.width), settings.surprise, settings.trunk_gradient)
            self.value_params, self.slow = random_head(critic, model, 1), random_head(critic, model, 2)
            objective = Seen(self.config, len(self.head_weights), critic)
        else:
            objective = Rho1(self.config, len(self.head_weights))
        state = TrainState(
            *(jnp.int32(0), self.params, (), jax.random.key_data(jax.random.key(0)), jnp.int32(0), jnp.int32(0)),
            statistics=RUNNING,
            target_value_params=self.slow,
        )
        batch = jax.tree.map(jnp.asarray, self.batch)

        compute = lambda *inputs: loss_and_gradients(model, objective, *inputs)
        trainable = {"params": self.params, "value_params": self.value_params}
        # Compiled without optimisation: the step runs once, and compiling it takes most of the time.
        compiled = jax.jit(compute, compiler_options={"xla_backend_optimization_level": 0})
        (_, sums), self.gradients, targets = compiled(trainable, batch, state)
        if objective.critic:
            lambda_, lengths_B = settings.lambda_, self.batch["target_mask"].sum(1)
            if settings.lambda_alpha:
                lambda_ = length_adaptive_lambda(jnp.asarray(lengths_B), settings.lambda_alpha)
            self.advantages = token_advantages(
                jax.nn.sigmoid(targets.metrics["value_logits"]),
                self.batch["is_correct"],
                self.batch["target_mask"],
                gamma=settings.gamma,
                lambda_=lambda_,
            )
        self.loss, self.value_loss = sums["cross_entropy"], sums.get("value_loss")
        self.coefficients = np.asarray(targets.policy["coefficients"])
        self.metrics = targets.metrics

    def run_oracle(self):
        batch, settings, weighting = self.batch, self.config.critic, self.config.weighting
        self.torch_model = model = Transformer(ModelArgs(**dataclasses.asdict(self.model_config)))
        model.load_state_dict(meta_state_dict(self.params))
        tokens, segments = (torch.as_tensor(batch[name]) for name in ("tokens", "segment_ids"))
        context = model.context(tokens, None, segments)
        trunk = model.trunk(tokens, *context)
        logits = model.logits(torch.stack([head(trunk, *context) for head in model.prediction_heads], dim=2))
        mask, imitated = batch["target_mask"], self.imitated
        if self.config.objective == "rho1":
            log_p = torch.log_softmax(logits[:, :-1, 0].detach().double(), -1)
            nll = -log_p.gather(-1, tokens[:, 1:, None])[..., 0].numpy()
            excess = np.pad(nll, ((0, 0), (1, 0)))[imitated] - batch["reference_nll"][imitated].astype(np.float64)
            self.expected_diff = excess.mean()
            if self.config.rho1.mode == "top_k":
                n_kept = round(self.config.rho1.keep_fraction * len(excess))
                w = np.zeros(len(excess))
                w[np.argsort(-excess, kind="stable")[:n_kept]] = 1.0
            else:
                w = weighting_oracle.clipped(weighting_oracle.mean_one(excess / weighting.temperature), weighting.clip)
            value_part = 0.0
        else:
            value_part, scores = self.oracle_of_values(model, trunk, logits, tokens)
            x = scores[imitated]
            mean, variance = (0.05, 0.1225) if weighting.statistics == "ema" else (x.mean(), x.var())
            z = (x - mean) / np.sqrt(variance)
            w, self.mixed = weighting_oracle.with_entropy_floor(
                weighting_oracle.mean_one(z / weighting.temperature), weighting.entropy_floor
            )
            w = weighting_oracle.clipped(w, weighting.clip)
        self.expected_weights = np.zeros(mask.shape)
        self.expected_weights[imitated] = w
        cross_entropy = oracle.weighted_cross_entropy(logits, self.head_weights, batch, imitated, self.expected_weights)
        (cross_entropy + settings.value_coef * value_part).backward()
        self.expected_loss = cross_entropy.item()

    def oracle_of_values(self, model, trunk, logits, tokens):
        batch, settings, mask = self.batch, self.config.critic, self.batch["target_mask"]
        flat = lambda tree: {
            f"{layer}.{name}": torch.tensor(np.asarray(leaf), requires_grad=True)
            for layer, leaves in tree["head"].items()
            for name, leaf in leaves.items()
        }
        self.head, slow = flat(self.value_params), flat(self.slow)
        normed = model.norm(trunk)
        inputs = settings.trunk_gradient * normed + (1 - settings.trunk_gradient) * normed.detach()
        if settings.surprise:
            inputs = torch.cat([inputs, oracle.surprise_so_far(logits[:, :, 0], tokens, mask)], dim=-1)
        value_logits = oracle.value_logits(self.head, inputs)
        values = torch.sigmoid(value_logits)
        fixed = values.detach().double().numpy()
        ends = weighting_oracle.ends_of(mask)
        lambdas = [settings.lambda_] * len(ENDS)
        if settings.lambda_alpha:
            lambdas = [1 - 1 / (settings.lambda_alpha * (last - first + 1)) for first, last in ends]
        self.expected_advantages = weighting_oracle.advantages(
            fixed, batch["is_correct"], mask, settings.gamma, lambdas
        )
        targets = np.zeros(mask.shape, np.float32)
        states = [(b, j - 1) for b, (first, last) in enumerate(ends) for j in range(first, last + 1)]
        for b, t in states:
            if settings.returns == "lambda":
                targets[b, t] = self.expected_advantages[b, t + 1] + fixed[b, t]
            else:
                targets[b, t] = settings.gamma ** (ends[b][1] - t - 1) * batch["is_correct"][b]
        anchors = torch.sigmoid(oracle.value_logits(slow, inputs)).detach()
        loss = oracle.value_losses(values, value_logits, targets, states, anchors, settings.loss, settings.value_clip)
        self.expected_value_loss, self.expected_ranking = loss.item(), 0.0
        self.outside = np.mean([abs(values[s] - anchors[s]).item() > settings.value_clip for s in states])
        if self.config.data.pairs:
            last = [value_logits[b, ends[b][1] - 1] for b in range(len(ENDS))]
            margins = torch.stack([last[0] - last[1], last[2] - last[3]])
            ranking = -torch.nn.functional.logsigmoid(margins).mean()
            self.expected_ranking = ranking.item()
            loss = loss + settings.ranking_coef * ranking
        return loss, self.expected_advantages


@pytest.fixture(scope="module", params=CASES)
def both(request, new_case) -> Both:
    return Both(request.param, new_case)


def assert_same(ours, theirs: torch.Tensor, name: str):
    """Within 1e-4 of the parameter's largest entry, and not trivially zero."""
    largest = theirs.abs().max().item()
    assert largest > 1e-6, f"{name} has no gradient, so nothing is compared"
    assert np.abs(np.asarray(ours) - theirs.numpy()).max() <= 1e-4 * largest, name


@pytest.mark.slow
def test_weighted_step(both):
    """One test, because one product step and one torch step give all of it."""
    np.testing.assert_allclose(both.loss, both.expected_loss, rtol=1e-5)
    T, N = both.imitated.sum(), len(both.head_weights)
    expected = both.expected_weights
    assert expected[both.imitated].std() > 0.1
    for k in range(1, N + 1):
        within = both.imitated[:, k:] & (both.batch["segment_ids"][:, :-k] == 1)
        shared = np.where(within, expected[:, k:], 0.0)
        ours = both.coefficients[k - 1, :, :-k] / both.head_weights[k - 1] * shared.sum()
        np.testing.assert_allclose(ours, shared, rtol=2e-4, atol=1e-6)
        np.testing.assert_array_equal(both.coefficients[k - 1, :, -k:], 0)
    np.testing.assert_allclose(expected.sum() / T, both.metrics["weight_mean"], rtol=1e-5)
    ours = meta_state_dict(both.gradients["params"])
    for name, parameter in both.torch_model.named_parameters():
        assert_same(ours[name], parameter.grad, name)
    if both.config.objective == "rho1":
        np.testing.assert_allclose(both.metrics["reference_loss_diff"], both.expected_diff, atol=1e-4)
        return
    np.testing.assert_allclose(both.advantages, both.expected_advantages, atol=1e-5)
    np.testing.assert_allclose(both.value_loss, both.expected_value_loss, rtol=1e-5)
    for name, leaf in both.head.items():
        layer, kind = name.split(".")
        assert_same(both.gradients["value_params"]["head"][layer][kind], leaf.grad, name)
    if both.config.data.pairs:
        np.testing.assert_allclose(both.metrics["ranking_loss"], both.expected_ranking, rtol=1e-4)
    else:  # what this case is there for takes part in it
        assert both.mixed > 0
        assert {*np.round(both.config.weighting.clip, 5)} & {*np.round(expected[both.imitated], 5)}
        assert 0.1 < both.outside < 0.9
