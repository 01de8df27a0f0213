"""One training step: score the global batch, sum gradients over micro-batches, update."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from wmtp_jax.losses import head_targets, linear_cross_entropy
from wmtp_jax.model import MTPTransformer, logical_axes
from wmtp_jax.objectives.objective import Batch, Metrics, Objective
from wmtp_jax.parallel import constrain_tree
from wmtp_jax.training.state import TrainState
from wmtp_jax.weighting import Statistics

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Targets(NamedTuple):
    """What the scores of the global batch decided, all without gradient.

    Attributes:
        policy: `coefficients` and `valid`, each [N, B, S].
        critic: targets of the value, each [B, ..]; {} without a critic.
        n_positions: number of positions whose value is trained.
        statistics: of the advantages, after this batch.
        metrics: of weights and values.
    """

    policy: dict
    critic: dict
    n_positions: jax.Array
    statistics: Statistics
    metrics: Metrics


def make_train_step(
    model: MTPTransformer,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation | None = None,
) -> Step:
    """The pure function (state, batch) -> (state, metrics); jit it once, with the state donated.

    A non-finite loss or gradient leaves parameters and optimisers untouched and is counted. The objective's config says
    how many micro-batches there are and how long chunks of logits are, which changes the result by rounding only.
    """
    axes = logical_axes(model.config)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trainable = {"params": state.params, "value_params": state.value_params}
        (loss, sums), grads, targets = loss_and_gradients(model, objective, trainable, batch, state)
        metrics = {"loss": sums["cross_entropy"], "gradient_norm": optax.tree.norm(grads["params"])} | targets.metrics
        if objective.critic:
            metrics["value_loss"] = sums["value_loss"]
            metrics["value_gradient_norm"] = optax.tree.norm(grads["value_params"])
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))

        def update(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(grads["params"], state.opt_state, state.params)
            state = state.replace(
                params=optax.apply_updates(state.params, updates), opt_state=opt_state, statistics=targets.statistics
            )
            if objective.critic is None:
                return state
            updates, opt_state = value_optimizer.update(
                grads["value_params"], state.value_opt_state, state.value_params
            )
            value_params = optax.apply_updates(state.value_params, updates)
            decay = objective.config.critic.target_decay
            return state.replace(
                value_params=value_params,
                value_opt_state=opt_state,
                target_value_params=optax.incremental_update(value_params, state.target_value_params, 1 - decay),
            )

        valid_NxBxS = targets.policy["valid"]
        nll_N = sums["nll_N"] / jnp.maximum(valid_NxBxS.sum((1, 2)), 1)
        metrics |= {f"loss_head_{k + 1}": nll for k, nll in enumerate(nll_N)}
        metrics["targets"] = valid_NxBxS[0].sum()
        return _guarded(state, finite, update, metrics, axes)

    return train_step


def make_critic_step(
    model: MTPTransformer, objective: Objective, optimizer: optax.GradientTransformation
) -> Callable[[dict, TrainState, Batch], tuple[TrainState, Metrics]]:
    """Stage 1: (policy params, state, batch) -> (state, metrics), where the state's params are the critic's.

    The policy is only read, and `model` is the policy with its next-token head alone.
    """
    settings, axes = objective.config.critic, logical_axes(model.config)
    # Without pairs, neighbouring rows are solutions of unrelated problems: nothing says which should be valued higher.
    ranking_coef = settings.ranking_coef if settings.pairs else 0.0

    def critic_step(policy_params: dict, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def value_loss(value_params):
            _, _, scores = objective.forward(model, policy_params, value_params, None, batch)
            targets, n_positions, metrics = objective.critic_targets(
                batch, jax.lax.stop_gradient(scores), loss="bce", ranking_coef=ranking_coef
            )
            value, ranking = objective.value_loss(scores["value_logits"], batch, targets, n_positions, "bce")
            return value + ranking, metrics | {"value_loss": value}

        (loss, metrics), grads = jax.value_and_grad(value_loss, has_aux=True)(state.params)
        metrics["value_gradient_norm"] = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(metrics["value_gradient_norm"])

        def update(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            return state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

        return _guarded(state, finite, update, metrics, axes)

    return critic_step


def loss_and_gradients(
    model: MTPTransformer, objective: Objective, trainable: dict, batch: Batch, state: TrainState
) -> tuple[tuple[jax.Array, dict], dict, Targets]:
    """Loss and gradients of one global batch.

        loss = sum_k a_k (sum_t w[t+k] valid_k[t] nll_k[t]) / den_k  +  value_coef * value_loss

    with every denominator taken over the global batch: micro-batches add up, nothing is averaged afterwards. With one
    micro-batch the scores come out of the same trunk pass that is trained.

    Args:
        model: the policy.
        objective: gives weights and value targets.
        trainable: {"params", "value_params"}; gradients are taken with respect to both.
        batch: the global batch, see `Objective.weights`.
        state: gives the statistics, the key and the slow critic.

    Returns:
        (loss, {"cross_entropy", "value_loss", "nll_N"}), gradients as `trainable`, the targets.
    """
    config, settings = objective.config, objective.config.critic
    accumulation = config.train.accumulation
    ranking_coef = settings.ranking_coef if config.data.pairs else 0.0
    target_value_params = state.target_value_params if settings.loss == "clipped" else None
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

    def forward(trainable: dict, rows: Batch):
        return objective.forward(model, trainable["params"], trainable["value_params"], target_value_params, rows)

    def decide(scores: dict) -> Targets:
        policy, statistics, metrics = objective.policy_targets(batch, scores, state.statistics, key)
        if objective.critic is None:
            return Targets(policy, {}, jnp.float32(1), statistics, metrics)
        critic, n_positions, of_values = objective.critic_targets(
            batch, scores, loss=settings.loss, ranking_coef=ranking_coef
        )
        return Targets(policy, critic, n_positions, statistics, metrics | of_values)

    def losses(trainable: dict, rows: Batch, targets: Targets | None):
        states_NxBxSxD, kernel_DxV, scores = forward(trainable, rows)
        if targets is None:
            targets = decide(jax.lax.stop_gradient(scores))
        targets_NxBxS = head_targets(rows["tokens"], model.config.n_future_tokens)
        total, nll_NxBxS = linear_cross_entropy(
            states_NxBxSxD, kernel_DxV, targets_NxBxS, targets.policy["coefficients"], config.loss.chunk_length
        )
        sums = {"cross_entropy": total, "nll_N": jnp.where(targets.policy["valid"], nll_NxBxS, 0.0).sum((1, 2))}
        if objective.critic:
            sums["value_loss"], ranking = objective.value_loss(
                scores["value_logits"], rows, targets.critic, targets.n_positions, settings.loss
            )
            total = total + settings.value_coef * (sums["value_loss"] + ranking)
        return total, (sums, targets)

    gradient = jax.value_and_grad(losses, has_aux=True)
    if accumulation == 1:
        (loss, (sums, targets)), grads = gradient(trainable, batch, None)
        return (loss, sums), grads, targets

    scores = {}
    if objective.critic or objective.needs_surprise:
        scores = jax.lax.map(lambda rows: forward(trainable, rows)[2], _split(batch, accumulation))
        scores = jax.lax.stop_gradient(jax.tree.map(_joined, scores))
    targets = decide(scores)

    def part(micro_batch):
        rows, policy, critic = micro_batch
        (loss, (sums, _)), grads = gradient(trainable, rows, targets._replace(policy=policy, critic=critic))
        return (loss, sums), grads

    micro_batches = (
        _split(batch, accumulation),
        _split(targets.policy, accumulation, axis=1),
        _split(targets.critic, accumulation),
    )
    shapes = jax.eval_shape(part, jax.tree.map(lambda x: x[0], micro_batches))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    add = lambda total, micro_batch: (jax.tree.map(jnp.add, total, part(micro_batch)), None)
    total, _ = jax.lax.scan(add, zeros, micro_batches)
    return (*total, targets)


def _guarded(state: TrainState, finite: jax.Array, update, metrics: Metrics, axes: dict) -> tuple[TrainState, Metrics]:
    state = constrain_tree(jax.lax.cond(finite, update, lambda state: state, state), axes)
    state = state.replace(
        step=state.step + 1,
        skipped=state.skipped + ~finite,
        skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
    )
    return state, metrics | {"skipped": state.skipped, "skipped_in_row": state.skipped_in_row}


def _split(tree, n: int, axis: int = 0):
    """Splits the batch axis B into a leading axis of n micro-batches and B / n rows.

    Row b goes to micro-batch b mod n, so that a sharded batch axis stays sharded.
    """

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis + 1, 0)

    return jax.tree.map(split, tree)


def _joined(x: jax.Array) -> jax.Array:
    """The inverse of `_split` along the leading axis."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])
