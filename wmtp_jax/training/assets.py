"""What a run starts from: architecture, parameters, tokenizer, examples."""

import dataclasses

import jax
import ml_collections

import converters
from converters.checkpoint import open_checkpoint
from wmtp_jax.data import Examples, Tokenizer, load_examples, load_tokenizer, require_labels
from wmtp_jax.files import files_digest
from wmtp_jax.model import ModelConfig, init_params, logical_axes, param_shapes
from wmtp_jax.objectives.objective import Objective
from wmtp_jax.parallel import shardings
from wmtp_jax.storage import resolve
from wmtp_jax.training.config import ConfigError


@dataclasses.dataclass
class Assets:
    """Everything that is read before the first step.

    `train` has correct and incorrect examples where the objective needs labels; `valid` has held-out ones of the kind
    that the policy learns, and `labelled`, where the objective needs labels, correct and incorrect ones.
    """

    model_config: ModelConfig
    params: dict
    tokenizer: Tokenizer
    train: Examples
    valid: Examples
    labelled: Examples | None


def load_assets(config: ml_collections.ConfigDict, objective: type[Objective]) -> Assets:
    """Reads and checks all that a config names, but for what the objective adds itself.

    Raises:
        UserError: names the file, line, tensor or field that is wrong.
    """
    if config.model.path:
        model_config, params = converters.load(resolve(config.model.path), shardings=param_shardings)
    else:
        model_config = architecture(config)
        params = init_params(model_config, config.seed, param_shardings(model_config))
    if config.data.buckets[-1] > model_config.max_seq_len:
        raise ConfigError(
            f"config.data.buckets ends with {config.data.buckets[-1]}, but the model's context is "
            f"{model_config.max_seq_len}; choose lengths within it"
        )
    tokenizer = load_tokenizer(resolve(config.model.tokenizer or config.model.path), vocab_size=model_config.vocab_size)

    def examples(path: str, policy_samples: str) -> Examples:
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

    train = examples(config.data.train, "all" if objective.needs_labels else config.data.policy_samples)
    labelled = examples(config.data.valid, "all") if objective.needs_labels else None
    if objective.needs_labels and config.data.reward == "outcome":
        require_labels(train, config.data.train)
        require_labels(labelled, config.data.valid)
    valid = examples(config.data.valid, config.data.policy_samples)
    return Assets(model_config, params, tokenizer, train, valid, labelled)


def digest_inputs(
    config: ml_collections.ConfigDict, objective: type[Objective], assets: Assets
) -> dict[str, dict[str, str]]:
    """Path and SHA-256 of everything on disk that a run reads, by config field."""
    paths = {"model.tokenizer": str(assets.tokenizer.path)} | asset_paths(config, objective)
    digests = {
        "model.tokenizer": assets.tokenizer.digest,
        "data.train": assets.train.store.digest,  # of tokens, labels and lines
        "data.valid": assets.valid.store.digest,
    }
    for field, path in paths.items():
        if field == "critic.path":
            digests[field] = files_digest(resolve(path).glob("critic.*"))
        elif field not in digests:
            digests[field] = files_digest(open_checkpoint(resolve(path)).files)
    return {field: {"path": path, "sha256": digests[field]} for field, path in paths.items()}


def require_even_batches(
    mesh: jax.sharding.Mesh, config: ml_collections.ConfigDict, objective: type[Objective]
) -> None:
    """Refuses batches whose rows cannot be split evenly over the mesh."""
    n_shards = mesh.shape["data"] * mesh.shape["fsdp"]
    sizes = {"train.batch_size / config.train.accumulation": config.train.batch_size / config.train.accumulation}
    if objective.needs_labels:
        sizes["critic.batch_size"] = config.critic.batch_size
    for name, rows in sizes.items():
        if rows % n_shards:
            raise ConfigError(
                f"config.{name} is {rows:g} rows, which config.mesh splits into {n_shards} parts (data x fsdp); "
                f"expected a multiple of {n_shards}"
            )


def param_shardings(model_config: ModelConfig) -> dict:
    """Where each parameter lies on the mesh."""
    return shardings(param_shapes(model_config), logical_axes(model_config))


def architecture(config: ml_collections.ConfigDict) -> ModelConfig:
    """The fresh model that `config.model.architecture` describes."""
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for name in config.model.architecture:
        if name not in fields:
            raise ConfigError(f"config.model.architecture.{name} is not a field of a model; expected {sorted(fields)}")
    try:
        return ModelConfig(**config.model.architecture.to_dict())
    except TypeError as error:
        raise ConfigError(f"config.model.architecture is incomplete: {error}") from error


def asset_paths(config: ml_collections.ConfigDict, objective: type[Objective]) -> dict[str, str]:
    """Field -> path of everything on disk that a run will read."""
    fields = ["model.path", "model.tokenizer", "data.train", "data.valid", *objective.assets]
    if config.data.reward == "reward_model":
        fields.append("data.reward_model")
    paths = {field: config[field.partition(".")[0]][field.partition(".")[2]] for field in fields}
    return {field: path for field, path in paths.items() if path}
