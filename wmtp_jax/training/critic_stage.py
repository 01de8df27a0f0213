"""Stage 1: the critic learns from correct and incorrect solutions; the policy is only read."""

import jax

from wmtp_jax.data import Sampling, make_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.objective import Objective
from wmtp_jax.progress import Progress
from wmtp_jax.training.assets import Assets
from wmtp_jax.training.critic_files import load_critic, save_critic
from wmtp_jax.training.loop import Stage, fit
from wmtp_jax.training.metrics import MetricsWriter, read_metrics
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import step_flops
from wmtp_jax.training.run_directory import Run
from wmtp_jax.training.state import TrainState, create_state
from wmtp_jax.training.step import make_critic_step
from wmtp_jax.training.validation import Validation


def critic_settings(config) -> dict:
    """What values depend on beside the critic's parameters."""
    return {name: config.critic[name] for name in ("width", "surprise", "model", "gamma")}


def train_critic(
    run: Run, model: MTPTransformer, objective: Objective, assets: Assets, validation: Validation, value_params: dict
) -> dict:
    """Trains until `critic.steps`, or until the AUC on unseen problems stops growing; keeps the best critic.

    Args:
        run: its directory gets `critic`, the best critic, and critic_metrics.jsonl.
        model: the policy.
        objective: with a critic.
        assets: examples, and the policy's parameters.
        validation: measures the critic.
        value_params: fresh ones.

    Returns:
        The critic's parameters.
    """
    config, settings = run.config, run.config.critic
    kept, best = run.directory / "critic", run.directory / "critic_best"
    metrics_path = run.directory / "critic_metrics.jsonl"
    if kept.exists():
        return load_critic(kept, value_params, critic_settings(config))

    plain_params, plain_config = next_token_model(assets.params, model.config)
    optimizer = make_optimizer(settings.optimizer, settings.steps)
    critic_step = make_critic_step(
        model.clone(config=plain_config), objective, optimizer, chunk_length=config.loss.chunk_length
    )
    critic_step = jax.jit(critic_step, donate_argnums=1)
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
        learning_rate=learning_rate(settings.optimizer, settings.steps),
        flops=lambda rows, length: step_flops(plain_config, rows, length) / 3,
    )

    def history() -> list[float]:
        """AUC of every evaluation so far."""
        entries = read_metrics(metrics_path) if metrics_path.exists() else []
        return [entry["valid/value_auc"] for entry in entries if "valid/value_auc" in entry]

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
