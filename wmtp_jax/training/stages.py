"""The stages of a run: first the critic alone, where there is one, then the policy and the critic beside it."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmtp_jax.data import Sampling, make_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.model import MTPTransformer, logical_axes
from wmtp_jax.objectives.objective import Objective
from wmtp_jax.progress import Progress
from wmtp_jax.training.assets import Assets
from wmtp_jax.training.critic_files import load_critic, save_critic
from wmtp_jax.training.loop import Stage, fit
from wmtp_jax.training.metrics import MetricsWriter, read_metrics
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import measured_matmul_peak, step_flops
from wmtp_jax.training.run_directory import Run
from wmtp_jax.training.state import TrainState, create_state
from wmtp_jax.training.step import make_critic_step, make_train_step
from wmtp_jax.training.validation import Validation


def critic_settings(config: ConfigDict) -> dict:
    """What values depend on beside the critic's parameters."""
    return {name: config.critic[name] for name in ("width", "surprise", "model", "gamma")}


def train_critic(
    run: Run, model: MTPTransformer, objective: Objective, assets: Assets, validation: Validation, value_params: dict
) -> dict:
    """Stage 1: from fresh parameters for `critic.steps`, or until the AUC on unseen problems stops growing.

    The policy is only read. The run's directory gets `critic`, the best critic, and critic_metrics.jsonl.

    Returns:
        The best critic's parameters.
    """
    config, settings = run.config, run.config.critic
    kept, best = run.directory / "critic", run.directory / "critic_best"
    metrics_path = run.directory / "critic_metrics.jsonl"
    if kept.exists():
        return load_critic(kept, value_params, critic_settings(config))

    plain_params, plain_config = next_token_model(assets.params, model.config)
    optimizer = make_optimizer(settings.optimizer, settings.steps)
    critic_step = jax.jit(make_critic_step(model.clone(config=plain_config), objective, optimizer), donate_argnums=1)
    batches = make_batches(
        assets.train,
        batch_size=settings.batch_size,
        seed=config.seed,
        buckets=config.data.buckets,
        sampling=Sampling(correct_ratio=0.5, pairs=settings.pairs, length_balanced=settings.length_balanced),
    )
    stage = Stage(
        prefix="critic_",
        n_steps=settings.steps,
        checkpoint_every=settings.evaluate_every,
        losses=("value_loss",),
        logical_axes=logical_axes(plain_config),
        learning_rate=learning_rate(settings.optimizer, settings.steps),
    )

    def history() -> list[float]:
        """AUC of every evaluation so far."""
        return [entry["valid/value_auc"] for entry in read_metrics(metrics_path) if "valid/value_auc" in entry]

    def out_of_patience() -> bool:
        aucs = history()
        return bool(aucs) and len(aucs) - 1 - aucs.index(max(aucs)) >= settings.patience

    def evaluate(step: int, state: TrainState, metrics_file: MetricsWriter, progress: Progress) -> bool:
        measures = validation.measure_objective(assets.params, state.params)
        metrics = {f"valid/{name}": value for name, value in measures.items()}
        metrics_file.write(step, metrics)
        if run.tracker:
            run.tracker.log(step, {f"critic/{name}": value for name, value in metrics.items()})
        progress.say(
            f"critic, step {step}: AUC on unseen problems {measures['value_auc']:.3f}, "
            f"on pairs of like length {measures['value_auc_pairs']:.3f}"
        )
        aucs = history()
        if aucs.index(max(aucs)) == len(aucs) - 1:
            save_critic(best, state.params, critic_settings(config), measures)
        return out_of_patience()

    if not out_of_patience():  # a run killed between its last checkpoint and the critic's final name trains no more
        fit(
            run,
            stage,
            lambda state, batch: critic_step(plain_params, state, batch),
            lambda value_params: create_state(value_params, optimizer, seed=config.seed),
            {"value_params": value_params},
            batches,
            evaluate,
        )
    best.rename(kept)
    return load_critic(kept, value_params, critic_settings(config))


def train_policy(
    run: Run, model: MTPTransformer, objective: Objective, assets: Assets, value_params: dict | None
) -> TrainState:
    """Stage 2, or the only one: `train.steps` from the assets' parameters, which leave them for the state."""
    config, data, n_steps = run.config, run.config.data, run.config.train.steps
    optimizer = make_optimizer(config.optimizer, n_steps, freeze=config.freeze, head_weights=objective.head_weights)
    value_optimizer = make_optimizer(config.critic.stage2_optimizer, n_steps)
    train_step = jax.jit(make_train_step(model, objective, optimizer, value_optimizer), donate_argnums=0)
    batches = make_batches(
        assets.train,
        batch_size=config.train.batch_size,
        seed=config.seed,
        buckets=data.buckets,
        pack=data.pack,
        sampling=Sampling(
            correct_ratio=data.correct_ratio,
            pairs=data.pairs,
            length_balanced=data.length_balanced,
            difficulty_weights=tuple(data.difficulty_weights),
        ),
    )
    peak_flops = measured_matmul_peak(jnp.dtype(config.model.dtype))
    stage = Stage(
        prefix="",
        n_steps=n_steps,
        checkpoint_every=config.train.checkpoint_every,
        losses=tuple(f"loss_head_{k + 1}" for k in range(model.config.n_future_tokens)),
        logical_axes=logical_axes(model.config),
        learning_rate=learning_rate(config.optimizer, n_steps),
        peak_seconds=lambda rows, length: step_flops(model.config, rows, length) / peak_flops,
    )

    def create(params: dict, value_params: dict | None) -> TrainState:
        return create_state(
            params, optimizer, seed=config.seed, value_params=value_params, value_optimizer=value_optimizer
        )

    initial, assets.params = {"params": assets.params, "value_params": value_params}, None
    return fit(run, stage, train_step, create, initial, batches)
