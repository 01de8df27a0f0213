"""From a command line to a checked config. Imports no jax: what is wrong is said before anything heavy starts."""

import argparse
import ast
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import defaults
from configs.ranges import is_number
from wmtp_jax.cli import ArgumentParser
from wmtp_jax.errors import UserError, shown
from wmtp_jax.jsonl import fields_of

_EXAMPLES = (
    "python -m wmtp_jax.train --config configs/verifiable.py",
    "python -m wmtp_jax.train --config configs/baseline.py:7b --config.train.steps=1000 --dry_run",
)


class ConfigError(UserError):
    """A config or a command line that describes no run."""


class CommandLine(NamedTuple):
    """What `python -m wmtp_jax.train` was asked for."""

    config: ConfigDict
    workdir: Path
    dry_run: bool


def parse(argv: Sequence[str]) -> CommandLine:
    """Reads the config file, applies every `--config.field=value`, and checks the result.

    Args:
        argv: arguments after the program's name.

    Raises:
        UserError: names the flag or field, what was expected, and what to do.
    """
    arguments, _ = _parser(defaults.get_config()).parse_known_args(argv)
    if arguments.config is None:
        raise ConfigError("--config is missing; try --config configs/baseline.py")
    config = load_config(arguments.config)
    arguments, unknown = _parser(config).parse_known_args(argv)
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        if name.startswith("config."):
            raise ConfigError(f"{shown(name)[1:-1]} is not a field; see configs/defaults.py for the fields there are")
        raise ConfigError(f"unexpected argument {shown(unknown[0])}; every option is --name=value, see --help")
    config.update_from_flattened_dict(vars(arguments), strip_prefix="config.")
    if arguments.run_name is not None:
        config.run_name = arguments.run_name
    validate(config)
    return CommandLine(config, arguments.workdir, arguments.dry_run)


def load_config(path_and_preset: str) -> ConfigDict:
    """Runs a config file's `get_config`.

    Args:
        path_and_preset: FILE.py or FILE.py:PRESET.

    Raises:
        ConfigError: there is no such file, or it fails.
    """
    path, _, preset = path_and_preset.partition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        raise ConfigError(f"config file {shown(path)} does not exist; expected a .py file such as configs/baseline.py")
    spec = importlib.util.spec_from_file_location("experiment", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*([preset] if preset else []))
    except Exception as error:
        last_line = (str(error).strip().splitlines() or [""])[-1].strip()
        raise ConfigError(
            f"config {path_and_preset}: {type(error).__name__}: {last_line}; correct the preset or the file"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"config {path_and_preset}: get_config gave {shown(config)}; expected a ConfigDict")
    return config


def validate(config: ConfigDict) -> None:
    """Checks every field's name, type and range, and the few that depend on each other.

    What depends on the objective is checked by `Objective.check`, what depends on the model when it is loaded.

    Raises:
        ConfigError: names the first field that is wrong.
    """
    values = dict(fields_of(config))
    for name in values:
        if name not in defaults.FIELDS and not name.startswith("model.architecture."):
            raise ConfigError(f"config.{name} is not a field; see configs/defaults.py for the fields there are")
    for name, (default, allowed) in defaults.FIELDS.items():
        if isinstance(default, ConfigDict):
            continue
        if name not in values:
            raise ConfigError(f"config.{name} is missing; start the config from configs.defaults.get_config()")
        value = values[name]
        if type(value) is not type(default) and not (isinstance(default, float) and is_number(value)):
            raise ConfigError(
                f"config.{name} is {shown(value)}, of type {type(value).__name__}; "
                f"expected {type(default).__name__}, such as {default!r}"
            )
        if not allowed.holds(value):
            raise ConfigError(f"config.{name} is {shown(value)}; expected {allowed.expected}")
    if config.weighting.statistics == "ema" and config.weighting.normalization != "zscore":
        raise ConfigError(
            "config.weighting.statistics is 'ema', which only --config.weighting.normalization=zscore uses"
        )
    if config.loss.heads == "next_token" and config.loss.head_weights:
        raise ConfigError("config.loss.head_weights is set, but config.loss.heads is 'next_token'; give one of them")
    for group, size in (("data", config.train.batch_size), ("critic", config.critic.batch_size)):
        if config[group].pairs and size % 2:
            raise ConfigError(f"config.{group}.pairs is on, but the batch size {size} is odd; give an even one")
        if config[group].length_balanced and not config[group].pairs:
            raise ConfigError(f"config.{group}.length_balanced balances pairs; set --config.{group}.pairs=True")
    if config.train.batch_size % config.train.accumulation:
        raise ConfigError(
            f"config.train.accumulation {config.train.accumulation} does not divide config.train.batch_size "
            f"{config.train.batch_size}; expected whole micro-batches"
        )
    if bool(config.model.path) == bool(config.model.architecture):
        raise ConfigError(
            "config.model.path and config.model.architecture: expected exactly one of them, a directory to start from "
            "or the fields of a fresh model"
        )
    if not config.model.path and not config.model.tokenizer:
        raise ConfigError("config.model.tokenizer is empty; a fresh model needs the path of a tokenizer.model")


def _parser(config: ConfigDict) -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m wmtp_jax.train",
        usage="python -m wmtp_jax.train --config FILE[:PRESET] [--config.FIELD=VALUE ...] [options]",
        description="Trains a model, and reports what changed on held-out problems. The same command continues a run.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--config", metavar="FILE[:PRESET]", help="config file, such as configs/baseline.py:micro")
    parser.add_argument("--workdir", type=Path, default=Path("runs"), metavar="DIR", help="holds the runs; runs")
    parser.add_argument("--run_name", metavar="NAME", help="of the run's directory in there; the config's run_name")
    parser.add_argument("--dry_run", action="store_true", help="say what the run lacks, print its config, and stop")
    group = parser.add_argument_group("fields of the config and their values (configs/defaults.py explains them)")
    for name, value in fields_of(config):
        if isinstance(value, ConfigDict):
            continue
        group.add_argument(
            f"--config.{name}",
            dest=f"config.{name}",
            type=_type_of(value),
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=repr(value).replace("%", "%%"),
            **({"nargs": "?", "const": True} if isinstance(value, bool) else {}),
        )
    return parser


def _type_of(value: Any) -> Callable[[str], Any]:
    """What turns a text into a value of the same type."""
    kind = type(value)

    def parse(text: str) -> Any:
        try:
            if kind is bool:
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            if kind is tuple:
                return _tuple(text)
            return kind(text) if kind in (int, float) else text
        except (KeyError, ValueError):
            expected = {bool: "True or False", int: "a whole number, without exponent", float: "a number"}[kind]
            raise argparse.ArgumentTypeError(f"{shown(text)} is not {expected}") from None

    return parse


def _tuple(text: str) -> tuple:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    return tuple(value) if isinstance(value, tuple | list) else (value,)
