"""From a command line to a checked config."""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import defaults
from wmtp_jax.data import TEMPLATES
from wmtp_jax.errors import UserError
from wmtp_jax.model import ModelConfig
from wmtp_jax.model.attention import ATTENTION
from wmtp_jax.model.transformer import REMAT
from wmtp_jax.training.objective import CONTROLS, OBJECTIVES
from wmtp_jax.weighting import NORMALIZATIONS


class ConfigError(UserError):
    """A config or a command line that describes no run."""


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What `python -m wmtp_jax.train` was asked for."""

    config: ConfigDict
    workdir: Path
    dry_run: bool


def parse(argv: Sequence[str]) -> CommandLine:
    """Reads the config file and every `--config.field=value`, and checks the result.

    Args:
        argv: arguments after the program's name.

    Raises:
        ConfigError: names the flag or field, what was expected, and what to do.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, e.g. configs/baseline.py:micro.",
        flag_values=values,
        sys_argv=["train", *argv],
    )
    flags.DEFINE_string("workdir", "runs", "Directory that holds the runs.", flag_values=values)
    flags.DEFINE_string("run_name", None, "Name of the run; the config says by default.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the config and what is missing for it; stop.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    _check_config_file(argv)
    try:
        rest = values(["train", *argv])[1:]
    except flags.Error as error:
        raise ConfigError(_as_sentence(error)) from error
    except (AttributeError, KeyError) as error:
        raise ConfigError(f"{_unknown_field(argv)}; see configs/defaults.py for the fields there are") from error
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"the config file could not be read: {type(error).__name__}: {_last_line(error)}") from error
    if values.help:
        raise SystemExit(f"python -m wmtp_jax.train --config FILE[:preset] [--config.field=value ...]\n{values}")
    if rest:
        raise ConfigError(f"unexpected argument {rest[0]!r}; every option is --name=value, see --help")
    if values.config is None:
        raise ConfigError("--config is missing; try --config configs/baseline.py")
    config = values.config
    if values.run_name is not None:
        config.run_name = values.run_name
    validate(config)
    return CommandLine(config, Path(values.workdir), values.dry_run)


_positive = (lambda v: 0 < v < math.inf, "a finite number above 0")
_at_least_0 = (lambda v: 0 <= v < math.inf, "a finite number of at least 0")
_at_least_1 = (lambda v: v >= 1, "1 or more")
_share = (lambda v: 0 <= v <= 1, "between 0 and 1")
_below_1 = (lambda v: 0 <= v < 1, "at least 0 and below 1")
_given = (lambda v: bool(v) and v != "None", "a non-empty text")


def _one_of(choices: Sequence[str]):
    return (lambda v: v in choices, " or ".join(choices))


_RULES = {
    "run_name": (lambda v: re.fullmatch(r"[A-Za-z0-9][\w.\-]*", v), "letters, digits, '.', '_' and '-'"),
    "seed": _at_least_0,
    "objective": _one_of(OBJECTIVES),
    "model.tokenizer": (lambda v: v != "None", "a path, or '' for the one beside the model"),
    "model.dtype": _one_of(("float32", "bfloat16")),
    "model.remat": _one_of(tuple(REMAT)),
    "model.attention": _one_of(ATTENTION),
    "data.train": _given,
    "data.valid": _given,
    "data.template": _one_of(tuple(TEMPLATES)),
    "data.policy_samples": _one_of(("correct", "all")),
    "data.reward": _one_of(("outcome", "reward_model")),
    "data.reward_model": _given,
    "data.over_length": _one_of(("drop", "error")),
    "data.buckets": (
        lambda v: v and all(_is_int(x) and x > 1 for x in v) and list(v) == sorted(set(v)),
        "increasing whole lengths above 1, e.g. --config.data.buckets='(64, 96, 128)'",
    ),
    "data.correct_ratio": _share,
    "data.difficulty_weights": (
        lambda v: all(len(x) == 2 and isinstance(x[0], str) and _is_number(x[1]) and x[1] >= 0 for x in v),
        "pairs of a difficulty and a weight, such as (('easy', 1.0), ('hard', 2.0))",
    ),
    "data.max_per_problem": _at_least_0,
    "weighting.normalization": _one_of(NORMALIZATIONS),
    "weighting.statistics": _one_of(("batch", "ema")),
    "weighting.ema_decay": _below_1,
    "weighting.temperature": (lambda v: v > 0, "a number above 0"),
    "weighting.entropy_floor": _share,
    "weighting.clip": (
        lambda v: len(v) == 2 and all(_is_number(x) for x in v) and 0 <= v[0] < 1 < v[1],
        "two bounds with 0 <= min < 1 < max, such as --config.weighting.clip='(0.1, 5.0)'",
    ),
    "weighting.control": _one_of(CONTROLS),
    "critic.path": (lambda v: v != "None", "a directory, or '' to train the critic in stage 1"),
    "critic.model": (lambda v: v != "None", "a model directory, or '' for a head on the policy's trunk"),
    "critic.width": _at_least_0,
    "critic.trunk_gradient": _at_least_0,
    "critic.gamma": _share,
    "critic.lambda_": _share,
    "critic.lambda_alpha": _at_least_0,
    "critic.returns": _one_of(("monte_carlo", "lambda")),
    "critic.steps": _at_least_1,
    "critic.batch_size": _at_least_1,
    "critic.ranking_coef": _at_least_0,
    "critic.evaluate_every": _at_least_1,
    "critic.patience": _at_least_1,
    "critic.loss": _one_of(("bce", "clipped")),
    "critic.value_clip": _positive,
    "critic.target_decay": _below_1,
    "critic.value_coef": _at_least_0,
    "rho1.reference": _given,
    "rho1.mode": _one_of(("weighted", "top_k")),
    "rho1.keep_fraction": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "loss.heads": _one_of(("all", "next_token")),
    "loss.head_weights": (
        lambda v: all(_is_number(x) and x >= 0 for x in v) and (not v or sum(v) > 0),
        "() or one weight of at least 0 per head, e.g. --config.loss.head_weights='(1.0, 0.5, 0.5, 0.5)'",
    ),
    "loss.chunk_length": _at_least_1,
    **{
        f"{group}.{name}": rule
        for group in ("optimizer", "critic.optimizer", "critic.stage2_optimizer")
        for name, rule in {
            "learning_rate": _positive,
            "warmup_steps": _at_least_0,
            "final_fraction": _share,
            "b1": _below_1,
            "b2": _below_1,
            "eps": _positive,
            "weight_decay": _at_least_0,
            "clip_norm": _positive,
        }.items()
    },
    "freeze": (lambda v: all(isinstance(x, str) and _is_pattern(x) for x in v), "a tuple of regular expressions"),
    "train.steps": _at_least_1,
    "train.batch_size": _at_least_1,
    "train.accumulation": _at_least_1,
    "train.log_every": _at_least_1,
    "train.checkpoint_every": _at_least_1,
    "train.keep_checkpoints": _at_least_1,
    "train.max_skipped": _at_least_1,
    "evaluation.batch_size": _at_least_1,
    "evaluation.problems": _at_least_0,
    "evaluation.max_new_tokens": _at_least_1,
    "evaluation.timeout_s": (lambda v: 0 < v <= 86400, "seconds above 0, at most 86400, a day"),
    "evaluation.sandbox": _one_of(("bwrap", "none")),
    "export.layout": _one_of(("meta", "hf")),
    "export.dtype": _one_of(("float32", "float16", "bfloat16")),
}


def validate(config: ConfigDict) -> None:
    """Checks every field's name, type and range, and the few that depend on each other.

    Raises:
        ConfigError: names the first field that is wrong.
    """
    _check_fields(config, defaults.get_config(), "")
    for name, (holds, expected) in _RULES.items():
        value = _get(config, name)
        if not holds(value):
            raise ConfigError(f"config.{name} is {value!r}; expected {expected}")
    if config.objective == "verifiable" and config.data.pack:
        raise ConfigError(
            "config.data.pack is on, but a critic needs one solution per row; set --config.data.pack=False"
        )
    if config.data.reward == "reward_model" and config.objective != "verifiable":
        raise ConfigError(
            f"config.data.reward is 'reward_model', but the objective {config.objective!r} reads no reward; take "
            "configs/verifiable.py, or set --config.data.reward=outcome"
        )
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
    if config.model.architecture:
        architecture(config)


def architecture(config: ConfigDict) -> ModelConfig:
    """The fresh model that `config.model.architecture` describes."""
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for name in config.model.architecture:
        if name not in fields:
            raise ConfigError(f"config.model.architecture.{name} is not a field of a model; expected {sorted(fields)}")
    try:
        return ModelConfig(**config.model.architecture.to_dict())
    except TypeError as error:
        raise ConfigError(f"config.model.architecture is incomplete: {_last_line(error)}") from error


def _check_fields(config: ConfigDict, default: ConfigDict, prefix: str) -> None:
    for name in config:
        if name not in default:
            raise ConfigError(f"config.{prefix}{name} is not a field; see configs/defaults.py for the fields there are")
    for name in default:
        if name not in config:
            raise ConfigError(f"config.{prefix}{name} is missing; start the config from configs.defaults.get_config()")
        value, expected = config[name], default[name]
        if isinstance(expected, ConfigDict):
            if not isinstance(value, ConfigDict):
                raise ConfigError(f"config.{prefix}{name} is {value!r}; expected a group of fields")
            if len(expected):
                _check_fields(value, expected, f"{prefix}{name}.")
        elif type(value) is not type(expected) and not (isinstance(expected, float) and _is_number(value)):
            raise ConfigError(
                f"config.{prefix}{name} is {value!r}, of type {type(value).__name__}; "
                f"expected {type(expected).__name__}, such as {expected!r}"
            )


def _check_config_file(argv: Sequence[str]) -> None:
    """config_flags answers a bad file or preset with a traceback; this answers with a sentence."""
    for position, argument in enumerate(argv):
        if argument in ("--config", "-config"):
            value = argv[position + 1] if position + 1 < len(argv) else ""
        elif argument.startswith("--config="):
            value = argument.partition("=")[2]
        else:
            continue
        path, _, preset = value.partition(":")
        if not path.endswith(".py") or not Path(path).is_file():
            raise ConfigError(f"config file {path!r} does not exist; expected a .py file such as configs/baseline.py")
        spec = importlib.util.spec_from_file_location("experiment", path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            module.get_config(*([preset] if preset else []))
        except Exception as error:
            raise ConfigError(f"config {value}: {_last_line(error)}") from error


def _unknown_field(argv: Sequence[str]) -> str:
    known = _flatten(defaults.get_config())
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            return f"{name} is not a field"
    return "an option names a field that does not exist"


def _flatten(config: ConfigDict, prefix: str = "") -> set[str]:
    names = set()
    for name, value in config.items():
        names |= _flatten(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else {f"{prefix}{name}"}
    return names


def _as_sentence(error: Exception) -> str:
    return f"{_last_line(error)}; correct this option (a tuple is written '(1, 2)', a whole number without exponent)"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _get(config: ConfigDict, name: str):
    for part in name.split("."):
        config = config[part]
    return config


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
