"""Trains a model: python -m wmtp_jax.train --config configs/verifiable.py

Below, in this order: config, assets, objective, measures before, critic stage, policy stage (batches, steps and
checkpoints are in training/loop.py), measures after, export, report.
"""

import contextlib
import json
import sys
from collections.abc import Sequence

from wmtp_jax import cli
from wmtp_jax.files import write_atomically
from wmtp_jax.training.config import CommandLine, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return cli.run(lambda: run(parse(sys.argv[1:] if argv is None else argv)), "the same command continues this run")


def run(command: CommandLine) -> None:
    """One run, from its config to its report; started again, it continues where it was."""
    # Imported here, because jax takes seconds: a mistyped flag is answered at once.
    import jax
    import jax.numpy as jnp

    from wmtp_jax.model import MTPTransformer
    from wmtp_jax.objectives import objective_class
    from wmtp_jax.parallel import make_mesh
    from wmtp_jax.report import closing_table, write_report
    from wmtp_jax.storage import resolve
    from wmtp_jax.storage.missing import missing_assets
    from wmtp_jax.training.assets import architecture, asset_paths, digest_inputs, load_assets, require_even_batches
    from wmtp_jax.training.critic_files import load_critic, save_critic
    from wmtp_jax.training.export import export_model, n_parameters
    from wmtp_jax.training.metrics import MetricsWriter, read_metrics
    from wmtp_jax.training.run_directory import Run, check_inputs, open_run_directory
    from wmtp_jax.training.stages import critic_settings, train_critic, train_policy
    from wmtp_jax.training.tracking import Tracker
    from wmtp_jax.training.validation import Validation, closing_rows
    from wmtp_jax.weighting import collapse_warnings

    config = command.config
    objective_type = objective_class(config.objective)
    objective_type.check(config)
    if config.model.architecture:
        architecture(config)
    if command.dry_run:
        print(f"{missing_assets(asset_paths(config, objective_type))}\n\n{config}")
        return

    with contextlib.ExitStack() as stack:
        mesh = make_mesh(config.mesh)
        require_even_batches(mesh, config, objective_type)
        stack.enter_context(jax.set_mesh(mesh))
        directory = stack.enter_context(open_run_directory(command.workdir, config.run_name, config.to_dict()))
        assets = load_assets(config, objective_type)
        tracker = None
        if config.mlflow:
            tracker = stack.enter_context(Tracker(command.workdir, directory, config.run_name, config.to_dict()))
        log = directory / "metrics.jsonl"
        run = Run(config, directory, tracker)
        model = MTPTransformer(
            assets.model_config,
            dtype=jnp.dtype(config.model.dtype),
            remat=config.model.remat,
            attention=config.model.attention,
        )
        print(
            f"{config.run_name}: {n_parameters(assets.params):,} parameters, "
            f"{assets.model_config.n_future_tokens} heads; train: {assets.train.counts}; run directory: {directory}"
        )
        objective = objective_type(config, assets.model_config.n_future_tokens)
        validation = Validation(config, model, objective, assets)
        assets.train, assets.labelled = objective.prepare(
            assets.train, assets.labelled, assets.tokenizer, command.workdir
        )

        def validated(name: str, step: int, params: dict, value_params: dict | None) -> dict[str, float]:
            """Measured once, and read from NAME.json by a run that continues; the log has one line of it."""
            path = directory / f"{name}.json"
            if not path.exists():
                write_atomically(path, json.dumps(validation.measure(params, value_params), indent=2) + "\n")
            measures = json.loads(path.read_text(encoding="utf-8"))
            metrics = {f"valid/{key}": value for key, value in measures.items()}
            if not any(entry["step"] == step and metrics.keys() <= entry.keys() for entry in read_metrics(log)):
                with MetricsWriter(log, next_step=step + 1) as metrics_file:
                    metrics_file.write(step, metrics)
                if tracker:
                    tracker.log(step, metrics)
            return measures

        value_params = None
        if objective.critic:
            value_params = objective.init_value_params(model)
            if config.critic.path:
                value_params = load_critic(resolve(config.critic.path), value_params, critic_settings(config))
        check_inputs(directory, digest_inputs(config, objective_type, assets))
        before = validated("before", 0, assets.params, value_params)
        if objective.critic and not config.critic.path:
            value_params = train_critic(run, model, objective, assets, validation, value_params)
        state = train_policy(run, model, objective, assets, value_params)
        after = validated("after", config.train.steps, state.params, state.value_params)

        export = directory / "export"
        export_model(export, config, assets, state.params, after)
        if objective.critic:
            save_critic(directory / "critic_after", state.value_params, critic_settings(config), after)
        metrics = read_metrics(log)
        rows = closing_rows(before, after, metrics, objective)
        page = write_report(directory, rows, metrics, export)
        if tracker:
            for path in (page, directory / "loss.png", directory / "config.json", directory / "environment.json"):
                tracker.log_file(path)
        print(f"\n{closing_table(rows)}\n")
        for warning in collapse_warnings({name: value for entry in metrics for name, value in entry.items()} | after):
            print(f"warning: {warning}")
        print(f"model:  {export}\nreport: {page}")


if __name__ == "__main__":
    sys.exit(main())
