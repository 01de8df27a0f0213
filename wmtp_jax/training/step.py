"""One training step: score the global batch, sum gradients over micro-batches, update (DESIGN 4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from wmtp_jax.losses import head_targets, linear_cross_entropy
from wmtp_jax.model import MTPTransformer
from wmtp_jax.training.objective import Objective
from wmtp_jax.training.state import TrainState
from wmtp_jax.weighting import Statistics, next_token_surprise

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Plan(NamedTuple):
    """What the score phase decided for the global batch, all without gradient.

    Attributes:
        rows: arrays with a leading batch axis, dealt out with the rows: `policy` and, with a critic, `value`.
        n_states: number of states whose value is trained.
        statistics: of the advantages, after this batch.
        metrics: of weights and values.
    """

    rows: dict
    n_states: jax.Array
    statistics: Statistics
    metrics: Metrics


def make_train_step(
    model: MTPTransformer,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation | None = None,
    *,
    accumulation: int = 1,
    chunk_length: int = 128,
) -> Step:
    """The pure function (state, batch) -> (state, metrics); jit it once, with the state donated.

    A non-finite loss or gradient leaves parameters and optimisers untouched and is counted.

    Args:
        model: the policy; gives N and the compute dtype.
        objective: weights and value targets.
        optimizer: of the policy.
        value_optimizer: of the critic, when the objective has one.
        accumulation: number of micro-batches, a divisor of B; it changes the result by rounding only.
        chunk_length: positions per chunk of logits.
    """
    settings = objective.config.critic

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trainable = {"params": state.params, "value_params": state.value_params}
        (loss, sums), grads, plan = loss_and_gradients(
            model, objective, trainable, batch, state, accumulation=accumulation, chunk_length=chunk_length
        )
        metrics = {"loss": sums["cross_entropy"], "gradient_norm": optax.tree.norm(grads["params"])} | plan.metrics
        if objective.critic:
            metrics |= {
                "value_loss": sums["value_loss"],
                "value_gradient_norm": optax.tree.norm(grads["value_params"]),
            }
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))

        def update(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(grads["params"], state.opt_state, state.params)
            state = state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)
            if objective.critic is None:
                return state
            updates, opt_state = value_optimizer.update(
                grads["value_params"], state.value_opt_state, state.value_params
            )
            value_params = optax.apply_updates(state.value_params, updates)
            return state.replace(
                value_params=value_params,
                value_opt_state=opt_state,
                target_value_params=optax.incremental_update(
                    value_params, state.target_value_params, 1 - settings.target_decay
                ),
                statistics=plan.statistics,
            )

        valid_BxNxS = plan.rows["policy"]["valid"]
        nll_N = sums["nll_N"] / jnp.maximum(valid_BxNxS.sum((0, 2)), 1)
        metrics |= {f"loss_head_{k + 1}": nll for k, nll in enumerate(nll_N)}
        metrics["targets"] = valid_BxNxS[:, 0].sum()
        return _guarded(state, finite, update, metrics)

    return train_step


def make_critic_step(
    model: MTPTransformer, objective: Objective, optimizer: optax.GradientTransformation, *, chunk_length: int = 128
) -> Callable[[dict, TrainState, Batch], tuple[TrainState, Metrics]]:
    """Stage 1: (policy params, state, batch) -> (state, metrics), where the state's params are the critic's.

    The policy is only read, with its next-token head alone; value targets and pairs are those of the whole batch.

    Args:
        model: the policy reduced to its next-token head.
        objective: with a critic.
        optimizer: of the critic.
        chunk_length: positions per chunk of logits.
    """
    settings = objective.config.critic
    # Without pairs, neighbouring rows are solutions of unrelated problems: nothing says which should be valued higher.
    ranking_coef = settings.ranking_coef if settings.pairs else 0.0

    def critic_step(policy_params: dict, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def value_loss(value_params):
            _, _, scores = forward(model, objective, policy_params, value_params, None, batch, chunk_length)
            fixed = jax.lax.stop_gradient(scores)
            plan, n_states, metrics = objective.value_plan(batch, fixed, loss="bce", ranking_coef=ranking_coef)
            value, ranking = objective.value_loss(scores["value_logits"], batch, plan, n_states, "bce")
            return value + ranking, metrics | {"value_loss": value}

        (loss, metrics), grads = jax.value_and_grad(value_loss, has_aux=True)(state.params)
        metrics["value_gradient_norm"] = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(metrics["value_gradient_norm"])

        def update(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            return state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

        return _guarded(state, finite, update, metrics)

    return critic_step


def loss_and_gradients(
    model: MTPTransformer,
    objective: Objective,
    trainable: dict,
    batch: Batch,
    state: TrainState,
    *,
    accumulation: int = 1,
    chunk_length: int = 128,
) -> tuple[tuple[jax.Array, dict], dict, Plan]:
    """Loss and gradients of one global batch.

        loss = sum_k a_k (sum_t w[t+k] valid_k[t] nll_k[t]) / den_k  +  value_coef * value_loss

    with every denominator taken over the global batch: micro-batches add up, nothing is averaged afterwards. With one
    micro-batch the scores come out of the same trunk pass that is trained.

    Args:
        model: the policy.
        objective: weights and value targets.
        trainable: {"params", "value_params"}; gradients are taken with respect to both.
        batch: the global batch, see `Objective.policy_plan`.
        state: gives the statistics, the key and the slow critic.
        accumulation: number of micro-batches.
        chunk_length: positions per chunk of logits.

    Returns:
        (loss, {"cross_entropy", "value_loss", "nll_N"}), gradients as `trainable`, the plan.
    """
    settings, value_loss_kind = objective.config.critic, objective.config.critic.loss
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

    def score(trainable: dict, rows: Batch):
        return forward(
            model,
            objective,
            trainable["params"],
            trainable["value_params"],
            state.target_value_params if value_loss_kind == "clipped" else None,
            rows,
            chunk_length,
        )

    def planned(scores: dict) -> Plan:
        policy, statistics, metrics = objective.policy_plan(batch, scores, state.statistics, key)
        if objective.critic is None:
            return Plan({"policy": policy}, jnp.float32(1), statistics, metrics)
        ranking_coef = settings.ranking_coef if objective.config.data.pairs else 0.0
        value, n_states, of_values = objective.value_plan(
            batch, scores, loss=value_loss_kind, ranking_coef=ranking_coef
        )
        return Plan({"policy": policy, "value": value}, n_states, statistics, metrics | of_values)

    def losses(trainable: dict, rows: Batch, plan_rows: dict | None, n_states: jax.Array | None):
        states_NxBxSxD, kernel_DxV, scores = score(trainable, rows)
        plan = None
        if plan_rows is None:
            plan = planned(jax.lax.stop_gradient(scores))
            plan_rows, n_states = plan.rows, plan.n_states
        policy = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), plan_rows["policy"])
        targets_NxBxS = head_targets(rows["tokens"], model.config.n_future_tokens)
        total, nll_NxBxS = linear_cross_entropy(
            states_NxBxSxD, kernel_DxV, targets_NxBxS, policy["coefficients"], chunk_length
        )
        sums = {"cross_entropy": total, "nll_N": jnp.where(policy["valid"], nll_NxBxS, 0.0).sum((1, 2))}
        if objective.critic:
            sums["value_loss"], ranking = objective.value_loss(
                scores["value_logits"], rows, plan_rows["value"], n_states, value_loss_kind
            )
            total = total + settings.value_coef * (sums["value_loss"] + ranking)
        return total, (sums, plan)

    gradient = jax.value_and_grad(losses, has_aux=True)
    needs_scores = objective.critic is not None or objective.needs_surprise
    if accumulation == 1 and needs_scores:
        (loss, (sums, plan)), grads = gradient(trainable, batch, None, None)
        return (loss, sums), grads, plan

    deal = lambda tree: jax.tree.map(lambda x: _dealt(x, accumulation), tree)
    scores = {}
    if needs_scores:
        scores = jax.lax.map(lambda rows: score(trainable, rows)[2], deal(batch))
        scores = jax.lax.stop_gradient(jax.tree.map(_gathered, scores))
    plan = planned(scores)
    if accumulation == 1:
        (loss, (sums, _)), grads = gradient(trainable, batch, plan.rows, plan.n_states)
        return (loss, sums), grads, plan

    def part(micro):
        (loss, (sums, _)), grads = gradient(trainable, *micro, plan.n_states)
        return (loss, sums), grads

    micros = deal((batch, plan.rows))
    shapes = jax.eval_shape(part, jax.tree.map(lambda x: x[0], micros))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(lambda total, micro: (jax.tree.map(jnp.add, total, part(micro)), None), zeros, micros)
    return (*total, plan)


def forward(
    model: MTPTransformer,
    objective: Objective,
    params: dict,
    value_params: dict | None,
    anchor_params: dict | None,
    rows: Batch,
    chunk_length: int,
) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
    """Head states [N, B, S, D], the unembedding [D, V], and the scores that the objective needs."""
    variables = {"params": params}
    trunk = model.apply(variables, rows["tokens"], rows["segment_ids"], method="trunk_states")
    states = model.apply(variables, trunk, rows["segment_ids"], method="head_states")
    kernel = model.apply(variables, method="unembedding")
    scores, features = {}, None
    if objective.needs_surprise:
        features = next_token_surprise(states[0], kernel, rows["tokens"], chunk_length)
        scores["features"] = features
    if objective.critic:
        normed = model.apply(variables, trunk, method="normed")
        scores["value_logits"] = objective.critic.value_logits(value_params, rows, normed, features)
        if anchor_params is not None:
            scores["anchor_logits"] = objective.critic.value_logits(anchor_params, rows, normed, features)
    return states, kernel, scores


def _guarded(state: TrainState, finite: jax.Array, update, metrics: Metrics) -> tuple[TrainState, Metrics]:
    state = jax.lax.cond(finite, update, lambda state: state, state)
    state = state.replace(
        step=state.step + 1,
        skipped=state.skipped + ~finite,
        skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
    )
    return state, metrics | {"skipped": state.skipped, "skipped_in_row": state.skipped_in_row}


def _dealt(x: jax.Array, accumulation: int) -> jax.Array:
    """[B, ..] -> [A, B/A, ..] with rows dealt out in turn, so that a sharded batch axis stays sharded."""
    return jnp.moveaxis(x.reshape(x.shape[0] // accumulation, accumulation, *x.shape[1:]), 1, 0)


def _gathered(x: jax.Array) -> jax.Array:
    """The inverse of `_dealt`."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])
