"""Trains a model: python -m wmtp_jax.train --config configs/baseline.py

config -> assets -> batches -> step -> checkpoint -> evaluation, in this order, below.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import optax

from wmtp_jax.data import TrainingBatches, make_batches
from wmtp_jax.errors import UserError
from wmtp_jax.model import MTPTransformer
from wmtp_jax.report import closing_table, write_report
from wmtp_jax.training.assets import Assets, load_assets, n_parameters
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.config import CommandLine, parse
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.export import export_model
from wmtp_jax.training.interruption import Interruption
from wmtp_jax.training.metrics import MetricsWriter
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import measured_matmul_peak, step_flops
from wmtp_jax.training.progress import Progress
from wmtp_jax.training.run_directory import RunDirectory, write_text_atomically
from wmtp_jax.training.state import TrainState, create_state
from wmtp_jax.training.step import make_train_step
from wmtp_jax.training.tracking import Tracker
from wmtp_jax.training.validation import closing_rows, validate_model


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if command.dry_run:
            print(command.config)
            return 0
        return run(command)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues this run", file=sys.stderr)
        return 130


def run(command: CommandLine) -> int:
    """One run, from its config to its report; started again, it continues where it was."""
    config = command.config
    with RunDirectory.create(command.workdir, config.run_name, config.to_dict()) as directory:
        assets = load_assets(config)
        tracker, status = None, "FAILED"
        if config.mlflow:
            tracker = Tracker(command.workdir, directory.path, config.run_name, config.to_dict())
        try:
            finished = _train_and_report(config, directory.path, assets, tracker)
            status = "FINISHED" if finished else "KILLED"
        finally:
            if tracker:
                tracker.close(status)
    return 0 if finished else 130


def _train_and_report(
    config: ml_collections.ConfigDict, directory: Path, assets: Assets, tracker: Tracker | None
) -> bool:
    """Whether the run came to its end; False when it was asked to stop and saved its state."""
    model = MTPTransformer(
        assets.model_config,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        attention=config.model.attention,
    )
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    print(
        f"{config.run_name}: {n_parameters(assets.params):,} parameters, {assets.model_config.n_future_tokens} heads; "
        f"train: {assets.train.counts}; run directory: {directory}"
    )

    def validated(name: str, step: int, params: dict) -> dict[str, float]:
        """Measured once: a run that continues has no start to measure any more."""
        path = directory / f"{name}.json"
        if not path.exists():
            measures = validate_model(model, params, assets, config, print)
            _log(directory, tracker, step, {f"valid/{name}": value for name, value in measures.items()})
            write_text_atomically(path, json.dumps(measures, indent=2) + "\n")
        return json.loads(path.read_text(encoding="utf-8"))

    before = validated("before", 0, assets.params)
    batches = make_batches(
        assets.train,
        batch_size=config.train.batch_size,
        seed=config.seed,
        buckets=config.data.buckets,
        pack=config.data.pack,
    )
    with Checkpoints(directory / "checkpoints", config.train.keep_checkpoints) as checkpoints:
        restored = checkpoints.restore_latest(jax.eval_shape(lambda p: create_state(p, optimizer), assets.params))
        if restored is None:
            state = create_state(assets.params, optimizer)
        else:
            step, state, data_state = restored
            batches.set_state(data_state)
            print(f"continuing after step {step}")
        assets.params = None  # the state owns them now, and donates them
        state = _fit(config, directory, model, optimizer, state, batches, checkpoints, tracker)
    batches.close()
    if int(state.step) < config.train.steps:
        print("stopped as asked; the same command continues this run")
        return False

    after = validated("after", config.train.steps, state.params)
    export = directory / "export"
    export_model(export, config, assets.model_config, state.params, assets, after)
    rows = closing_rows(before, after)
    page = write_report(directory, rows, export)
    if tracker:
        for path in (page, directory / "loss.png", directory / "config.json", directory / "environment.json"):
            tracker.log_file(path)
    print(f"\n{closing_table(rows)}\n\nmodel:  {export}\nreport: {page}")
    return True


def _fit(
    config: ml_collections.ConfigDict,
    directory: Path,
    model: MTPTransformer,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    tracker: Tracker | None,
) -> TrainState:
    """Feeds, logs and saves; all arithmetic is in the step. Metrics of a step are read while the next one runs."""
    n_heads, n_steps, first = model.config.n_future_tokens, config.train.steps, int(state.step) + 1
    train_step = jax.jit(
        make_train_step(
            model,
            optimizer,
            jnp.asarray(config.loss.head_weights or [1 / n_heads] * n_heads, jnp.float32),
            accumulation=config.train.accumulation,
            chunk_length=config.loss.chunk_length,
        ),
        donate_argnums=0,
    )
    rate = learning_rate(config.optimizer, n_steps)
    metrics_file = MetricsWriter(directory / "metrics.jsonl", next_step=first)
    progress = Progress(n_steps, measured_matmul_peak(jnp.dtype(config.model.dtype)))

    def report(step: int, shape: tuple[int, int], metrics: dict) -> None:
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        losses = [metrics[f"loss_head_{k + 1}"] for k in range(n_heads)]
        progress.update(step, losses, tokens=shape[0] * shape[1], flops=step_flops(model.config, *shape))
        if step % config.train.log_every == 0 or step in (1, n_steps):
            metrics["learning_rate"] = float(rate(step - 1))
            metrics_file.write(step, metrics)
            if tracker:
                tracker.log(step, metrics)
        if metrics["skipped_in_row"] >= config.train.max_skipped:
            good = checkpoints.last_step
            raise TrainingError(
                f"loss or gradient was not finite for {config.train.max_skipped} steps in a row, up to step {step}; "
                f"the last good checkpoint is {'none' if good is None else directory / 'checkpoints' / str(good)}: "
                "lower config.optimizer.learning_rate or look at the data, and start under another --run_name"
            )

    with metrics_file, progress, Interruption() as interruption:
        running = None
        for step in range(first, n_steps + 1):
            batch = next(batches)
            state, metrics = train_step(state, {name: batch[name] for name in ("tokens", "segment_ids", "target_mask")})
            if running:
                report(*running)
            running = step, batch["tokens"].shape, metrics
            last = interruption.requested or step == n_steps
            if last or step % config.train.checkpoint_every == 0:
                report(*running)
                running = None
                checkpoints.save(step, state, batches.get_state(), wait=last)
                progress.restart_clock()
            if last:
                break
    return state


def _log(directory: Path, tracker: Tracker | None, step: int, metrics: dict[str, float]) -> None:
    with MetricsWriter(directory / "metrics.jsonl", next_step=step + 1) as metrics_file:
        metrics_file.write(step, metrics)
    if tracker:
        tracker.log(step, metrics)


if __name__ == "__main__":
    sys.exit(main())
