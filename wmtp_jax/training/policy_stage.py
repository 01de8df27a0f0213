"""Stage 2, or the only one: the policy learns, and its critic beside it."""

import jax
import jax.numpy as jnp

from wmtp_jax.data import Sampling, make_batches
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.objective import Objective
from wmtp_jax.training.assets import Assets
from wmtp_jax.training.loop import Stage, fit
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import measured_matmul_peak, step_flops
from wmtp_jax.training.run_directory import Run
from wmtp_jax.training.state import TrainState, create_state
from wmtp_jax.training.step import make_train_step


def train_policy(
    run: Run, model: MTPTransformer, objective: Objective, assets: Assets, value_params: dict | None
) -> TrainState:
    """Trains for `train.steps`.

    Args:
        run: its directory gets checkpoints and metrics.jsonl.
        model: the policy.
        objective: what it is trained on.
        assets: examples and parameters; the parameters leave it for the state.
        value_params: of the critic, if the objective has one.
    """
    config, data, n_steps = run.config, run.config.data, run.config.train.steps
    optimizer = make_optimizer(config.optimizer, n_steps, freeze=config.freeze, head_weights=objective.head_weights)
    value_optimizer = make_optimizer(config.critic.stage2_optimizer, n_steps)
    train_step = make_train_step(
        model,
        objective,
        optimizer,
        value_optimizer,
        accumulation=config.train.accumulation,
        chunk_length=config.loss.chunk_length,
    )
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
    stage = Stage(
        prefix="",
        n_steps=n_steps,
        checkpoint_every=config.train.checkpoint_every,
        losses=tuple(f"loss_head_{k + 1}" for k in range(model.config.n_future_tokens)),
        learning_rate=learning_rate(config.optimizer, n_steps),
        flops=lambda rows, length: step_flops(model.config, rows, length),
        peak_flops=measured_matmul_peak(jnp.dtype(config.model.dtype)),
    )

    def create(params: dict, value_params: dict | None) -> TrainState:
        return create_state(
            params, optimizer, seed=config.seed, value_params=value_params, value_optimizer=value_optimizer
        )

    initial, assets.params = {"params": assets.params, "value_params": value_params}, None
    return fit(run, stage, jax.jit(train_step, donate_argnums=0), create, initial, batches)
