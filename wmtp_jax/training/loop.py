"""The thin shell around a step: it feeds, logs and saves; all arithmetic is in the step."""

from collections.abc import Callable

import jax

from wmtp_jax.data import TrainingBatches
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.interruption import Interruption
from wmtp_jax.training.metrics import MetricsWriter
from wmtp_jax.training.progress import Progress
from wmtp_jax.training.state import TrainState
from wmtp_jax.training.step import Batch, Step
from wmtp_jax.training.tracking import Tracker

_READ = ("tokens", "segment_ids", "target_mask", "is_correct", "reference_nll", "reward")


def fit(
    step_of: Step,
    state: TrainState,
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    *,
    n_steps: int,
    log_every: int,
    checkpoint_every: int,
    max_skipped: int,
    metrics_file: MetricsWriter,
    progress: Progress,
    tracker: Tracker | None,
    shown: Callable[[dict[str, float]], list[float]],
    flops: Callable[[int, int], float],
    extra: Callable[[int], dict[str, float]],
    ended: Callable[[int, TrainState], bool] | None = None,
) -> tuple[TrainState, bool]:
    """Runs the steps after state.step. Metrics of a step are read while the next one runs.

    Args:
        step_of: the jitted step; it may donate the state.
        state: where to begin.
        batches: stand where the state stands.
        checkpoints: take the state, and the position in the data.
        n_steps: of the whole stage.
        log_every: steps per line of metrics.
        checkpoint_every: steps per checkpoint; the last step has one too.
        max_skipped: non-finite steps in a row that end the run.
        metrics_file: metrics.jsonl.
        progress: what a person sees.
        tracker: MLflow, or None.
        shown: the losses to show, of a step's metrics.
        flops: matmul FLOPs of a step of B rows and S positions.
        extra: metrics that the step does not know, such as the learning rate.
        ended: called after every checkpoint with the state saved; True ends the stage early.

    Returns:
        The state, and whether the stage came to its end: False when a signal asked to stop; everything is saved then.

    Raises:
        TrainingError: the loss stays non-finite, or a checkpoint cannot be written.
    """

    def report(step: int, shape: tuple[int, int], metrics: dict) -> None:
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        progress.update(step, shown(metrics), tokens=shape[0] * shape[1], flops=flops(*shape))
        if step % log_every == 0 or step in (1, n_steps):
            metrics |= extra(step)
            metrics_file.write(step, metrics)
            if tracker:
                tracker.log(step, metrics)
        if metrics["skipped_in_row"] >= max_skipped:
            good = checkpoints.last_step
            raise TrainingError(
                f"loss or gradient was not finite for {max_skipped} steps in a row, up to step {step}; the last good "
                f"checkpoint is {'none' if good is None else f'of step {good}'}: lower the learning rate or look at "
                "the data, and start under another --run_name"
            )

    first = int(state.step) + 1
    with metrics_file, progress, Interruption() as interruption:
        running = None
        for step in range(first, n_steps + 1):
            batch = next(batches)
            state, metrics = step_of(state, batch)
            if running:
                report(*running)
            running = step, batch["tokens"].shape, metrics
            last = interruption.requested or step == n_steps
            if last or step % checkpoint_every == 0:
                report(*running)
                running = None
                done = bool(ended and ended(step, state))
                checkpoints.save(step, state, batches.get_state(), wait=last or done)
                progress.restart_clock()
                if done:
                    return state, True
            if interruption.requested:
                return state, step == n_steps
    return state, True


def device_batch(batch: Batch) -> Batch:
    """The arrays that a step reads."""
    return {name: batch[name] for name in _READ if name in batch}
