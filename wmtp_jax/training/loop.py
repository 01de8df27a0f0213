"""The loop of a stage: it feeds the step, reads the metrics of step t while step t+1 runs, and saves."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from wmtp_jax.data import TrainingBatches
from wmtp_jax.objectives.objective import Batch
from wmtp_jax.parallel import global_batch, shardings
from wmtp_jax.progress import Progress
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.interruption import Interruption
from wmtp_jax.training.metrics import MetricsWriter
from wmtp_jax.training.run_directory import Run
from wmtp_jax.training.state import TrainState
from wmtp_jax.training.step import Step


class Stage(NamedTuple):
    """What the loop has to know of a stage beside its step and its data.

    Attributes:
        prefix: of its checkpoints' directory and its metrics' file: "critic_", or "" for the policy.
        n_steps: of the whole stage.
        checkpoint_every: steps; the last step has a checkpoint too.
        losses: names of the metrics to show while it runs.
        logical_axes: of the policy's parameters, see `wmtp_jax.model.logical_axes`.
        learning_rate: of the next update, given the number of steps taken.
        peak_seconds: what a step of B rows and S positions takes at the machine's matmul peak; 0 shows no share of it.
    """

    prefix: str
    n_steps: int
    checkpoint_every: int
    losses: tuple[str, ...]
    logical_axes: dict
    learning_rate: Callable[[int], float]
    peak_seconds: Callable[[int, int], float] = lambda rows, length: 0.0


def fit(
    run: Run,
    stage: Stage,
    train_step: Step,
    create_state: Callable[..., TrainState],
    initial: dict[str, Any],
    batches: TrainingBatches,
    evaluate: Callable[[int, TrainState, MetricsWriter, Progress], bool] | None = None,
) -> TrainState:
    """Runs a stage from its newest checkpoint, or from its beginning, to its end.

    Args:
        run: gives the directory, and how often to log and how much to keep.
        stage: see `Stage`.
        train_step: the jitted step; it may donate the state.
        create_state: gives the state before the first step, of the values of `initial`.
        initial: trees of parameters; emptied once the state owns them, because the step donates them.
        batches: at the beginning of the data.
        evaluate: called before every checkpoint that is due, with the step, its state, the metrics file and the
            progress line; True ends the stage with that checkpoint.

    Raises:
        TrainingError: the loss stays non-finite, or a checkpoint cannot be written.
        KeyboardInterrupt, Terminated: a signal asked to stop; everything is saved.
    """
    settings = run.config.train
    checkpoint_directory = run.directory / f"{stage.prefix}checkpoints"
    with Checkpoints(checkpoint_directory, settings.keep_checkpoints) as checkpoints, contextlib.closing(batches):
        shapes = jax.eval_shape(create_state, *initial.values())
        layout = shardings(shapes, stage.logical_axes)
        restored = checkpoints.restore_latest(jax.tree.map(_placed, shapes, layout))
        if restored is None:
            state = jax.jit(create_state, out_shardings=layout)(*initial.values())
        else:
            done, state, data_state = restored
            batches.set_state(data_state)
            print(f"continuing after {stage.prefix.replace('_', ' ')}step {done}")
        initial.clear()
        first = int(state.step) + 1

        with (
            MetricsWriter(run.directory / f"{stage.prefix}metrics.jsonl", next_step=first) as metrics_file,
            Progress(stage.n_steps, f"{stage.prefix.replace('_', ' ')}step", rate="tokens", compiles=True) as progress,
            Interruption() as interruption,  # raises at its end when a signal asked to stop
        ):

            def report(step: int, shape: tuple[int, int], metrics: dict) -> None:
                metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
                losses = " ".join(f"{metrics[name]:.3f}" for name in stage.losses)
                work = shape[0] * shape[1]
                progress.update(step, f"loss {losses}", work=work, peak_seconds=stage.peak_seconds(*shape))
                if step % settings.log_every == 0 or step in (1, stage.n_steps):
                    metrics["learning_rate"] = float(stage.learning_rate(step - 1))
                    metrics_file.write(step, metrics)
                    if run.tracker:
                        prefix = stage.prefix.replace("_", "/")
                        run.tracker.log(step, {f"{prefix}{name}": value for name, value in metrics.items()})
                if metrics["skipped_in_row"] >= settings.max_skipped:
                    good = checkpoints.last_step
                    raise TrainingError(
                        f"loss or gradient was not finite for {settings.max_skipped} steps in a row, up to step "
                        f"{step}; the last good checkpoint is {'none' if good is None else f'of step {good}'}: lower "
                        "the learning rate or look at the data, and start under another --run_name"
                    )

            running = None
            for step in range(first, stage.n_steps + 1):
                batch = next(batches)
                state, metrics = train_step(state, device_batch(batch))
                if running:
                    report(*running)
                running = step, batch["tokens"].shape, metrics
                due = step % stage.checkpoint_every == 0 or step == stage.n_steps
                last = interruption.requested or step == stage.n_steps
                if due or last:
                    report(*running)
                    running = None
                    ended = bool(due and evaluate and evaluate(step, state, metrics_file, progress))
                    checkpoints.save(step, state, batches.get_state(), wait=last or ended)
                    progress.restart_clock()
                    if ended or last:
                        break
    return state


def device_batch(batch: Batch) -> Batch:
    """The arrays that a step reads, all but the examples' numbers, split over the devices."""
    return global_batch({name: array for name, array in batch.items() if name != "rows"})


def _placed(shape: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
