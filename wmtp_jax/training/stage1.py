"""Stage 1: the critic learns from right and wrong solutions; the policy is only read."""

from collections.abc import Callable
from pathlib import Path

import jax
import ml_collections

from wmtp_jax.data import Sampling, evaluation_batches, length_balanced_pairs, make_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.model import MTPTransformer
from wmtp_jax.training.assets import Assets
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.critic_files import load_critic, save_critic
from wmtp_jax.training.critic_measures import measure_critic
from wmtp_jax.training.loop import device_batch, fit
from wmtp_jax.training.metrics import MetricsWriter, read_metrics
from wmtp_jax.training.objective import Objective
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import step_flops
from wmtp_jax.training.progress import Progress
from wmtp_jax.training.state import TrainState, create_state
from wmtp_jax.training.step import make_critic_step
from wmtp_jax.training.tracking import Tracker


def critic_settings(config: ml_collections.ConfigDict) -> dict:
    """What values depend on beside the critic's parameters."""
    return {name: config.critic[name] for name in ("width", "surprise", "model", "gamma")}


def critic_evaluator(
    model: MTPTransformer, objective: Objective, assets: Assets, config: ml_collections.ConfigDict
) -> Callable[[dict, dict], dict[str, float]]:
    """(policy params, value params) -> measures of the critic on the validation split, see `measure_critic`."""
    pairs_Px2 = length_balanced_pairs(assets.labelled)

    def evaluate(params: dict, value_params: dict) -> dict[str, float]:
        plain_params, plain_config = next_token_model(params, model.config)
        batches = evaluation_batches(
            assets.labelled, batch_size=config.evaluation.batch_size, buckets=config.data.buckets
        )
        plain = model.clone(config=plain_config)
        return measure_critic(
            plain, objective, plain_params, value_params, batches, pairs_Px2, config.loss.chunk_length
        )

    return evaluate


def train_critic(
    config: ml_collections.ConfigDict,
    directory: Path,
    model: MTPTransformer,
    objective: Objective,
    assets: Assets,
    value_params: dict,
    tracker: Tracker | None,
) -> dict | None:
    """Trains until `critic.steps`, or until the AUC on unseen problems stops growing; keeps the best critic.

    Args:
        config: of the run.
        directory: of the run; the critic is left in `critic`, its metrics in critic_metrics.jsonl.
        model: the policy.
        objective: with a critic.
        assets: examples, and the policy's parameters.
        value_params: fresh ones.
        tracker: MLflow, or None.

    Returns:
        The critic's parameters, or None when the run was asked to stop.
    """
    kept = directory / "critic"
    if kept.exists():
        return load_critic(kept, value_params, critic_settings(config))
    settings, best = config.critic, directory / "critic_best"
    evaluate = critic_evaluator(model, objective, assets, config)
    plain_params, plain_config = next_token_model(assets.params, model.config)
    optimizer = make_optimizer(settings.optimizer, settings.steps)
    critic_step = jax.jit(
        make_critic_step(model.clone(config=plain_config), objective, optimizer, chunk_length=config.loss.chunk_length),
        donate_argnums=1,
    )
    rate = learning_rate(settings.optimizer, settings.steps)
    batches = make_batches(
        assets.train,
        batch_size=settings.batch_size,
        seed=config.seed,
        buckets=config.data.buckets,
        sampling=Sampling(
            correct_ratio=0.5, pairs=settings.pairs, length_balanced=settings.length_balanced, difficulty_weights=()
        ),
    )
    with Checkpoints(directory / "critic_checkpoints", config.train.keep_checkpoints) as checkpoints:
        state = create_state(value_params, optimizer, seed=config.seed)
        restored = checkpoints.restore_latest(state)
        if restored:
            _, state, data_state = restored
            batches.set_state(data_state)
        metrics_path = directory / "critic_metrics.jsonl"
        metrics_file = MetricsWriter(metrics_path, next_step=int(state.step) + 1)
        progress = Progress(settings.steps)

        def history() -> list[float]:
            return [entry["valid/value_auc"] for entry in read_metrics(metrics_path) if "valid/value_auc" in entry]

        def out_of_patience() -> bool:
            aucs = history()
            return bool(aucs) and len(aucs) - 1 - aucs.index(max(aucs)) >= settings.patience

        def ended(step: int, state: TrainState) -> bool:
            measures = evaluate(assets.params, state.params)
            _log_measures(metrics_file, tracker, step, measures)
            progress.say(
                f"critic, step {step}: AUC on unseen problems {measures['value_auc']:.3f}, "
                f"on pairs of like length {measures['value_auc_pairs']:.3f}"
            )
            aucs = history()
            if aucs.index(max(aucs)) == len(aucs) - 1:
                save_critic(best, state.params, critic_settings(config), measures)
            return out_of_patience()

        finished = out_of_patience()  # a run killed between its last checkpoint and the critic's final name
        if not finished:
            state, finished = fit(
                lambda state, batch: critic_step(plain_params, state, device_batch(batch)),
                state,
                batches,
                checkpoints,
                n_steps=settings.steps,
                log_every=config.train.log_every,
                checkpoint_every=settings.evaluate_every,
                max_skipped=config.train.max_skipped,
                metrics_file=metrics_file,
                progress=progress,
                tracker=None,
                shown=lambda metrics: [metrics["value_loss"]],
                flops=lambda rows, length: step_flops(plain_config, rows, length) / 3,
                extra=lambda step: {"learning_rate": float(rate(step - 1))},
                ended=ended,
            )
    batches.close()
    if not finished:
        return None
    best.rename(kept)
    return load_critic(kept, value_params, critic_settings(config))


def _log_measures(metrics_file: MetricsWriter, tracker: Tracker | None, step: int, measures: dict) -> None:
    measures = {f"valid/{name}": value for name, value in measures.items()}
    metrics_file.write(step, measures)
    if tracker:
        tracker.log(step, {f"critic/{name}": value for name, value in measures.items()})
