"""Trains a model: python -m wmtp_jax.train --config configs/verifiable.py

config -> assets -> batches -> step -> checkpoint -> evaluation, in this order, below.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import converters
from wmtp_jax.data import Examples, Sampling, make_batches
from wmtp_jax.errors import UserError
from wmtp_jax.model import MTPTransformer, ValueHead
from wmtp_jax.report import closing_table, write_report
from wmtp_jax.storage import resolve
from wmtp_jax.storage.missing import missing_assets
from wmtp_jax.training.assets import Assets, asset_paths, load_assets, n_parameters
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.config import CommandLine, parse
from wmtp_jax.training.critic import Critic
from wmtp_jax.training.critic_files import load_critic, save_critic
from wmtp_jax.training.export import export_model
from wmtp_jax.training.loop import device_batch, fit
from wmtp_jax.training.metrics import MetricsWriter, read_metrics
from wmtp_jax.training.objective import Objective
from wmtp_jax.training.optimizer import learning_rate, make_optimizer
from wmtp_jax.training.peak import measured_matmul_peak, step_flops
from wmtp_jax.training.progress import Progress
from wmtp_jax.training.reference import reference_scores
from wmtp_jax.training.reward_model import agreement, reward_outcomes, reward_scores, solutions_of, with_outcomes
from wmtp_jax.training.run_directory import RunDirectory, write_text_atomically
from wmtp_jax.training.stage1 import critic_settings, train_critic
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import make_train_step
from wmtp_jax.training.tracking import Tracker
from wmtp_jax.training.validation import Validation, closing_rows
from wmtp_jax.weighting import collapse_warnings


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if command.dry_run:
            print(f"{command.config}\n{missing_assets(asset_paths(command.config))}")
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
            finished = train(config, directory.path, command.workdir, assets, tracker)
            status = "FINISHED" if finished else "KILLED"
        finally:
            if tracker:
                tracker.close(status)
    return 0 if finished else 130


def train(
    config: ml_collections.ConfigDict, directory: Path, workdir: Path, assets: Assets, tracker: Tracker | None
) -> bool:
    """Both stages and the report; False when the run was asked to stop and saved its state."""
    model = MTPTransformer(
        assets.model_config,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        attention=config.model.attention,
    )
    objective, value_params = make_objective(config, model)
    print(
        f"{config.run_name}: {n_parameters(assets.params):,} parameters, {assets.model_config.n_future_tokens} heads; "
        f"train: {assets.train.counts}; run directory: {directory}"
    )
    if config.objective == "rho1":
        add_reference_scores(config, assets, workdir)
    if config.data.reward == "reward_model":
        replace_outcomes(config, assets, workdir)
    validation = Validation(config, model, objective, assets)

    def validated(name: str, step: int, params: dict, value_params: dict | None) -> dict[str, float]:
        """Measured once: a run that continues has no start to measure any more."""
        path = directory / f"{name}.json"
        if not path.exists():
            measures = validation.measure(params, value_params)
            log(directory, tracker, step, {f"valid/{key}": value for key, value in measures.items()})
            write_text_atomically(path, json.dumps(measures, indent=2) + "\n")
        return json.loads(path.read_text(encoding="utf-8"))

    if objective.critic and config.critic.path:
        value_params = load_critic(resolve(config.critic.path), value_params, critic_settings(config))
    before = validated("before", 0, assets.params, value_params)
    if objective.critic and not config.critic.path:
        value_params = train_critic(config, directory, model, objective, assets, value_params, tracker)
        if value_params is None:
            return stopped()

    state = train_policy(config, directory, model, objective, assets, value_params, tracker)
    if int(state.step) < config.train.steps:
        return stopped()

    after = validated("after", config.train.steps, state.params, state.value_params)
    export = directory / "export"
    export_model(export, config, assets.model_config, state.params, assets, after)
    if objective.critic:
        save_critic(directory / "critic_after", state.value_params, critic_settings(config), after)
    last = read_metrics(directory / "metrics.jsonl")
    rows = closing_rows(before, after, last)
    page = write_report(directory, rows, export)
    if tracker:
        for path in (page, directory / "loss.png", directory / "config.json", directory / "environment.json"):
            tracker.log_file(path)
    print(f"\n{closing_table(rows)}\n")
    for warning in collapse_warnings({name: value for entry in last for name, value in entry.items()} | after):
        print(f"warning: {warning}")
    print(f"model:  {export}\nreport: {page}")
    return True


def make_objective(config: ml_collections.ConfigDict, model: MTPTransformer) -> tuple[Objective, dict | None]:
    """What is trained on, and fresh parameters of its critic, if it has one."""
    n_heads = model.config.n_future_tokens
    head_weights = tuple(config.loss.head_weights) or (1 / n_heads,) * n_heads
    if config.loss.heads == "next_token":
        head_weights = (1.0,) + (0.0,) * (n_heads - 1)
    critic, value_params = None, None
    if config.objective == "verifiable":
        separate, separate_params = None, None
        if config.critic.model:
            separate_config, separate_params = converters.load(resolve(config.critic.model))
            separate = model.clone(config=separate_config)
        critic = Critic(ValueHead(config.critic.width), config.critic.surprise, config.critic.trunk_gradient, separate)
        value_params = critic.init(jax.random.key(config.seed), model, separate_params)
    return Objective(ml_collections.FrozenConfigDict(config), head_weights, critic), value_params


def add_reference_scores(config: ml_collections.ConfigDict, assets: Assets, workdir: Path) -> None:
    """The reference model's nll of every training token, beside the tokens."""
    data, reference = resolve(config.data.train), resolve(config.rho1.reference)
    scores = reference_scores(
        assets.train,
        reference,
        tokenizer=assets.tokenizer,
        name=f"{_name_of(data)}-{reference.name}",
        cache_directory=workdir / "reference_cache",
        batch_size=config.evaluation.batch_size,
        buckets=config.data.buckets,
        chunk_length=config.loss.chunk_length,
        dtype=config.model.dtype,
        attention=config.model.attention,
        say=print,
    )
    assets.train = dataclasses.replace(assets.train, token_scores={"reference_nll": scores})


def _name_of(data: Path) -> str:
    """A data set's file in a word: its directory, that of the data set where it lies in processed/, and its stem."""
    directory = data.parent.parent if data.parent.name == "processed" else data.parent
    return f"{directory.name}-{data.name.partition('.')[0]}"


def replace_outcomes(config: ml_collections.ConfigDict, assets: Assets, workdir: Path) -> None:
    """A reward model's verdicts in the place of is_correct, in the training and in the validation data."""

    def scores_of(examples: Examples, path: str) -> np.ndarray:
        data = resolve(path)
        scores = reward_scores(
            solutions_of(examples),
            resolve(config.data.reward_model),
            name=f"{_name_of(data)}-{Path(config.data.reward_model).name}",
            cache_directory=workdir / "reward_cache",
            batch_size=config.evaluation.batch_size,
            dtype=config.model.dtype,
            attention=config.model.attention,
            say=print,
        )
        print(f"rewards of {data.name}: {agreement(scores, examples.is_correct)}")
        return scores

    of_train, of_valid = scores_of(assets.train, config.data.train), scores_of(assets.labelled, config.data.valid)
    median = float(np.median(of_train))
    assets.train = with_outcomes(assets.train, reward_outcomes(of_train, median))
    assets.labelled = with_outcomes(assets.labelled, reward_outcomes(of_valid, median))


def train_policy(
    config: ml_collections.ConfigDict,
    directory: Path,
    model: MTPTransformer,
    objective: Objective,
    assets: Assets,
    value_params: dict | None,
    tracker: Tracker | None,
):
    """Stage 2, or the only one: the policy, and its critic beside it."""
    n_steps, n_heads = config.train.steps, model.config.n_future_tokens
    optimizer = make_optimizer(config.optimizer, n_steps, freeze=config.freeze, head_weights=objective.head_weights)
    value_optimizer = make_optimizer(config.critic.stage2_optimizer, n_steps)
    train_step = jax.jit(
        make_train_step(
            model,
            objective,
            optimizer,
            value_optimizer,
            accumulation=config.train.accumulation,
            chunk_length=config.loss.chunk_length,
        ),
        donate_argnums=0,
    )
    batches = make_batches(
        assets.train,
        batch_size=config.train.batch_size,
        seed=config.seed,
        buckets=config.data.buckets,
        pack=config.data.pack,
        sampling=sampling_of(config),
    )
    rate = learning_rate(config.optimizer, n_steps)
    fresh = lambda params, value_params: create_state(
        params, optimizer, seed=config.seed, value_params=value_params, value_optimizer=value_optimizer
    )
    with Checkpoints(directory / "checkpoints", config.train.keep_checkpoints) as checkpoints:
        restored = checkpoints.restore_latest(jax.eval_shape(fresh, assets.params, value_params))
        if restored is None:
            state = fresh(assets.params, value_params)
        else:
            step, state, data_state = restored
            batches.set_state(data_state)
            print(f"continuing after step {step}")
        assets.params = None  # the state owns them now, and donates them
        state, _ = fit(
            lambda state, batch: train_step(state, device_batch(batch)),
            state,
            batches,
            checkpoints,
            n_steps=n_steps,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            max_skipped=config.train.max_skipped,
            metrics_file=MetricsWriter(directory / "metrics.jsonl", next_step=int(state.step) + 1),
            progress=Progress(n_steps, measured_matmul_peak(jnp.dtype(config.model.dtype))),
            tracker=tracker,
            shown=lambda metrics: [metrics[f"loss_head_{k + 1}"] for k in range(n_heads)],
            flops=lambda rows, length: step_flops(model.config, rows, length),
            extra=lambda step: {"learning_rate": float(rate(step - 1))},
        )
    batches.close()
    return state


def sampling_of(config: ml_collections.ConfigDict) -> Sampling | None:
    """How rows are drawn, when not simply in turn."""
    data = config.data
    if not (data.correct_ratio or data.pairs or data.difficulty_weights):
        return None
    return Sampling(
        correct_ratio=data.correct_ratio,
        pairs=data.pairs,
        length_balanced=data.length_balanced,
        difficulty_weights=tuple(data.difficulty_weights),
    )


def stopped() -> bool:
    """Says how to go on."""
    print("stopped as asked; the same command continues this run")
    return False


def log(directory: Path, tracker: Tracker | None, step: int, metrics: dict[str, float]) -> None:
    """One line of metrics outside the loop."""
    with MetricsWriter(directory / "metrics.jsonl", next_step=step + 1) as metrics_file:
        metrics_file.write(step, metrics)
    if tracker:
        tracker.log(step, metrics)


if __name__ == "__main__":
    sys.exit(main())
