"""Trains a model: python -m wmtp_jax.train --config configs/baseline.py

config -> assets -> batches -> step -> checkpoint -> evaluation, in this order, below.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

import converters
from wmtp_jax.data import TrainingBatches, make_batches
from wmtp_jax.errors import UserError
from wmtp_jax.model import MTPTransformer
from wmtp_jax.report import closing_table, write_report
from wmtp_jax.training.assets import Assets, load_assets, n_parameters
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.config import CommandLine, parse
from wmtp_jax.training.errors import TrainingError
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


def run(command: CommandLine) -> int:
    """One run, from its config to its report; started again, it continues where it was."""
    config = command.config
    with RunDirectory.create(command.workdir, config.run_name, config.to_dict()) as directory:
        assets = load_assets(config)
        tracker = None
        if config.mlflow:
            tracker = Tracker(command.workdir, directory.path, config.run_name, config.to_dict())
        status = "FAILED"
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
    before = _once(directory / "before.json", lambda: validate_model(model, assets.params, assets, config, print))
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

    after = validate_model(model, state.params, assets, config, print)
    export = directory / "export"
    if not export.exists():
        converters.save_meta(export, assets.model_config, state.params, tokenizer=assets.tokenizer.path)
    rows = closing_rows(before, after)
    page = write_report(directory, rows, export)
    if tracker:
        tracker.log(config.train.steps, {f"valid/{name}": value for name, value in after.items()})
        tracker.log_file(page)
    print(f"\n{closing_table(rows)}\n\nmodel:  {export}  (Meta layout)\nreport: {page}")
    return True


def _fit(
    config: ml_collections.ConfigDict,
    directory: Path,
    model: MTPTransformer,
    optimizer,
    state: TrainState,
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    tracker: Tracker | None,
) -> TrainState:
    """Feeds, logs and saves; all arithmetic is in the step. Metrics of a step are read while the next one runs."""
    n_heads = model.config.n_future_tokens
    head_weights = jnp.asarray(config.loss.head_weights or [1 / n_heads] * n_heads, jnp.float32)
    train_step = jax.jit(
        make_train_step(
            model,
            optimizer,
            head_weights,
            accumulation=config.train.accumulation,
            chunk_length=config.loss.chunk_length,
        ),
        donate_argnums=0,
    )
    rate = learning_rate(config.optimizer, config.train.steps)
    first = int(state.step)
    metrics_file = MetricsWriter(directory / "metrics.jsonl", next_step=first + 1)
    progress = Progress(config.train.steps, measured_matmul_peak(jnp.dtype(config.model.dtype)))

    def report(step: int, shape: tuple[int, int], metrics: dict) -> None:
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        progress.update(
            step,
            [metrics[f"loss_head_{k + 1}"] for k in range(n_heads)],
            tokens=shape[0] * shape[1],
            flops=step_flops(model.config, *shape),
        )
        if step % config.train.log_every == 0 or step in (1, config.train.steps):
            metrics["learning_rate"] = float(rate(step - 1))
            metrics_file.write(step, metrics)
            if tracker:
                tracker.log(step, metrics)
        if metrics["skipped_in_row"] >= config.train.max_skipped:
            raise TrainingError(
                f"loss or gradient was not finite for {config.train.max_skipped} steps up to step {step}; "
                f"the last good checkpoint is {_last_good(directory, checkpoints)}: lower the learning rate or look at "
                "the data, and start under another --run_name"
            )

    with Interruption() as interruption:
        pending: Callable[[], None] | None = None
        for step in range(first + 1, config.train.steps + 1):
            batch = next(batches)
            state, metrics = train_step(state, {name: batch[name] for name in ("tokens", "segment_ids", "target_mask")})
            if pending:
                pending()
            pending = lambda step=step, shape=batch["tokens"].shape, metrics=metrics: report(step, shape, metrics)
            last = interruption.requested or step == config.train.steps
            if last or step % config.train.checkpoint_every == 0:
                pending()
                pending = None
                if int(state.skipped_in_row) == 0:
                    checkpoints.save(step, state, batches.get_state(), wait=last)
                progress.restart_clock()
            if last:
                break
    metrics_file.close()
    progress.close()
    return state


def _last_good(directory: Path, checkpoints: Checkpoints) -> str:
    step = checkpoints.last_step
    return "none" if step is None else str(directory / "checkpoints" / str(step))


def _once(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measures and remembers; a run that continues has no start to measure any more."""
    if not path.exists():
        write_text_atomically(path, json.dumps(measure(), indent=2) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
