"""What a run starts from: architecture, parameters, tokenizer, examples, problems."""

import dataclasses

import jax
import ml_collections
import numpy as np

import converters
from wmtp_jax.data import Examples, Tokenizer, load_examples, load_tokenizer, read_records, require_labels
from wmtp_jax.evaluation import Problem, record_problems
from wmtp_jax.model import ModelConfig, init_params
from wmtp_jax.storage import resolve
from wmtp_jax.training.config import ConfigError, architecture


@dataclasses.dataclass
class Assets:
    """Everything that is read before the first step.

    Attributes:
        model_config: the architecture.
        params: its parameters, as loaded or freshly drawn.
        tokenizer: of the model.
        train: examples; of the verifiable objective right and wrong ones.
        valid: held-out examples of the kind that is imitated.
        labelled: held-out examples, right and wrong, of the verifiable objective; else None.
        problems: a fixed, evenly spread part of the validation problems, for greedy pass@1.
    """

    model_config: ModelConfig
    params: dict
    tokenizer: Tokenizer
    train: Examples
    valid: Examples
    labelled: Examples | None
    problems: list[Problem]


def load_assets(config: ml_collections.ConfigDict) -> Assets:
    """Reads and checks all that a config names.

    Raises:
        UserError: names the file, line, tensor or field that is wrong.
    """
    if config.model.path:
        model_config, params = converters.load(resolve(config.model.path))
    else:
        model_config = architecture(config)
        params = init_params(model_config, config.seed)
    n_heads = model_config.n_future_tokens
    if len(config.loss.head_weights) not in (0, n_heads):
        raise ConfigError(
            f"config.loss.head_weights has {len(config.loss.head_weights)} entries, but the model has {n_heads} heads; "
            "give one weight per head or () for equal ones"
        )
    if config.data.buckets[-1] > model_config.max_seq_len:
        raise ConfigError(
            f"config.data.buckets ends with {config.data.buckets[-1]}, but the model's context is "
            f"{model_config.max_seq_len}; choose lengths within it"
        )
    tokenizer = load_tokenizer(resolve(config.model.tokenizer or config.model.path), vocab_size=model_config.vocab_size)
    imitated = config.data.policy_samples
    labelled = None
    if config.objective == "verifiable":
        train = _examples(config, config.data.train, tokenizer, "all")
        labelled = _examples(config, config.data.valid, tokenizer, "all")
        if config.data.reward == "outcome":
            require_labels(train, config.data.train)
            require_labels(labelled, config.data.valid)
    else:
        train = _examples(config, config.data.train, tokenizer, imitated)
    return Assets(
        model_config=model_config,
        params=params,
        tokenizer=tokenizer,
        train=train,
        valid=_examples(config, config.data.valid, tokenizer, imitated),
        labelled=labelled,
        problems=_problems(config),
    )


def asset_paths(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Field -> path of everything on disk that a run will read."""
    read = {
        "model.path": True,
        "model.tokenizer": True,
        "data.train": True,
        "data.valid": True,
        "data.reward_model": config.data.reward == "reward_model",
        "critic.path": config.objective == "verifiable",
        "critic.model": config.objective == "verifiable",
        "rho1.reference": config.objective == "rho1",
    }
    paths = {field: config[field.partition(".")[0]][field.partition(".")[2]] for field, used in read.items() if used}
    return {field: path for field, path in paths.items() if path}


def n_parameters(params: dict) -> int:
    """Number of weights in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _examples(config: ml_collections.ConfigDict, path: str, tokenizer: Tokenizer, policy_samples: str) -> Examples:
    return load_examples(
        resolve(path),
        tokenizer,
        template=config.data.template,
        max_length=config.data.buckets[-1],
        over_length=config.data.over_length,
        policy_samples=policy_samples,
        clean_only=config.data.clean_only and path == config.data.train,
        max_per_problem=config.data.max_per_problem if path == config.data.train else 0,
    )


def _problems(config: ml_collections.ConfigDict) -> list[Problem]:
    if not config.evaluation.problems:
        return []
    path = resolve(config.data.valid)
    problems = record_problems(read_records(path), template=config.data.template, where=str(path))
    chosen = np.linspace(0, len(problems) - 1, min(config.evaluation.problems, len(problems))).round().astype(int)
    return [problems[i] for i in chosen]
