"""Every field of a training config: its value in the micro preset, and the range it may have.

An experiment starts from `get_config()` and changes what makes it that experiment. Each field can be set on the
command line: `--config.optimizer.learning_rate=3e-4`. Paths are relative to the working directory, or else to the
project's root.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.ranges import (
    ANY,
    COUNT,
    DEVICES,
    PATTERN,
    SHARE,
    Range,
    above,
    at_least,
    at_least_and_below,
    each,
    is_integer,
    is_number,
    one_of,
    text,
)
from wmtp_jax.objectives import OBJECTIVES


def _optimizer(group: str, learning_rate: float) -> dict[str, tuple[Any, Range]]:
    """AdamW with warm-up and cosine decay."""
    return {
        f"{group}.learning_rate": (learning_rate, above(0)),
        f"{group}.warmup_steps": (20, at_least(0)),
        f"{group}.final_fraction": (0.1, SHARE),
        f"{group}.b1": (0.9, at_least_and_below(0, 1)),
        f"{group}.b2": (0.95, at_least_and_below(0, 1)),
        f"{group}.eps": (1e-8, above(0)),
        f"{group}.weight_decay": (0.1, at_least(0)),
        f"{group}.clip_norm": (1.0, above(0)),
    }


_PATH = text("a path")
_OPTIONAL_PATH = text("a path, or ''", ".*")
_LENGTHS = Range(lambda value: is_integer(value) and value > 1, "a length")
_DIFFICULTY_WEIGHT = Range(
    lambda pair: (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and is_number(pair[1])
        and pair[1] >= 0
    ),
    "a difficulty and a weight",
)
_WEIGHT = at_least(0)

FIELDS: dict[str, tuple[Any, Range]] = {
    "run_name": ("baseline", text("letters, digits, '.', '_' and '-'", r"[A-Za-z0-9][\w.\-]*")),
    "seed": (0, at_least(0, 2**63 - 1)),
    "objective": ("baseline", one_of(*OBJECTIVES)),
    # The model.
    "model.path": ("storage/models_v2/micro-mtp", _OPTIONAL_PATH),  # "" for a fresh one
    "model.tokenizer": ("", _OPTIONAL_PATH),  # "" takes the one beside the model
    "model.architecture": (ConfigDict(), ANY),  # fields of ModelConfig, for a fresh model
    "model.dtype": ("float32", one_of("float32", "bfloat16")),  # of the computation; masters are float32
    "model.remat": ("none", one_of("none", "dots", "full")),
    "model.attention": ("dense", one_of("dense", "blocked")),
    # Records, and how batches are made of them.
    "data.train": ("storage/datasets_v2/microcode/train.jsonl.gz", _PATH),
    "data.valid": ("storage/datasets_v2/microcode/valid.jsonl.gz", _PATH),
    "data.template": ("raw", one_of("raw", "alpaca")),
    "data.policy_samples": ("correct", one_of("correct", "all")),  # which solutions the policy learns to write
    "data.reward": ("outcome", one_of("outcome", "reward_model")),  # outcome is the record's is_correct
    "data.reward_model": ("storage/models_v2/starling-rm-7b", _PATH),
    "data.clean_only": (False, ANY),  # keep only records marked clean, where there are no labels
    "data.buckets": (  # padded lengths; a record longer than the last is over-long
        (64, 96, 128),
        each(
            _LENGTHS,
            "increasing whole lengths above 1, e.g. --config.data.buckets='(64, 96, 128)'",
            lambda value: value and list(value) == sorted(set(value)),
        ),
    ),
    "data.over_length": ("drop", one_of("drop", "error")),
    "data.pack": (False, ANY),  # several documents per row of the longest bucket
    "data.correct_ratio": (0.0, SHARE),  # share of correct solutions in every batch; 0 takes the data as they are
    "data.pairs": (False, ANY),  # rows come as a correct and an incorrect solution of one problem
    "data.length_balanced": (False, ANY),  # pairs in which length says nothing about the label
    "data.difficulty_weights": (  # how often problems of a difficulty are drawn
        (),
        each(_DIFFICULTY_WEIGHT, "pairs of a difficulty and a weight, such as (('easy', 1.0), ('hard', 2.0))"),
    ),
    "data.max_per_problem": (0, at_least(0)),  # solutions of each label per problem; 0 for all
    # The loss.
    "loss.heads": ("all", one_of("all", "next_token")),  # next_token leaves heads 2..N untouched
    "loss.head_weights": (  # a_k, one per head; () is 1/N each
        (),
        each(
            _WEIGHT,
            "() or one weight of at least 0 per head, e.g. --config.loss.head_weights='(1.0, 0.5, 0.5, 0.5)'",
            lambda value: not value or sum(value) > 0,
        ),
    ),
    "loss.chunk_length": (128, COUNT),  # positions per chunk of logits
    # The weights of target tokens.
    "weighting.normalization": ("zscore", one_of("zscore", "minmax", "none")),  # of advantages
    "weighting.statistics": ("batch", one_of("batch", "ema")),  # of the z-score
    "weighting.ema_decay": (0.99, at_least_and_below(0, 1)),
    "weighting.temperature": (1.0, above(0)),
    "weighting.entropy_floor": (0.01, SHARE),
    "weighting.clip": (
        (0.1, 5.0),
        each(
            Range(is_number, "a number"),
            "two bounds with 0 <= min < 1 < max, such as --config.weighting.clip='(0.1, 5.0)'",
            lambda value: len(value) == 2 and 0 <= value[0] < 1 < value[1],
        ),
    ),
    "weighting.control": ("none", one_of("none", "uniform", "shuffled", "random", "solution_mean")),
    # The critic of the verifiable objective.
    "critic.path": ("", _OPTIONAL_PATH),  # a critic saved by an earlier run (RUN/critic); skips stage 1
    "critic.model": ("", _OPTIONAL_PATH),  # a model of the critic's own; "" is a head on the policy's trunk
    "critic.width": (64, at_least(0)),  # of the head's hidden layer; 0 is a linear head
    "critic.surprise": (True, ANY),  # the head also sees the policy's own surprise
    "critic.trunk_gradient": (0.0, at_least(0)),  # factor on the value loss's gradient into the trunk, in stage 2
    "critic.gamma": (1.0, SHARE),
    "critic.lambda_": (0.95, SHARE),
    "critic.lambda_alpha": (0.0, at_least(0)),  # above 0: lambda = 1 - 1 / (alpha * length) instead
    "critic.returns": ("monte_carlo", one_of("monte_carlo", "lambda")),
    "critic.steps": (150, COUNT),  # of stage 1, at the most
    "critic.batch_size": (32, COUNT),
    "critic.pairs": (True, ANY),  # stage 1 draws pairs of one problem ...
    "critic.length_balanced": (True, ANY),  # ... in which length says nothing about the label
    "critic.ranking_coef": (0.5, at_least(0)),  # of the pairwise ranking loss, where there are pairs
    "critic.evaluate_every": (50, COUNT),  # steps of stage 1
    "critic.patience": (2, COUNT),  # evaluations without a better AUC before stage 1 ends
    **_optimizer("critic.optimizer", learning_rate=1e-2),  # of stage 1
    "critic.loss": ("clipped", one_of("bce", "clipped")),  # of stage 2; clipped: squared error around a slow copy
    "critic.value_clip": (0.2, above(0)),
    "critic.target_decay": (0.99, at_least_and_below(0, 1)),  # of the slow copy, per step
    "critic.value_coef": (0.5, at_least(0)),
    **_optimizer("critic.stage2_optimizer", learning_rate=1e-3),
    # Rho-1.
    "rho1.reference": ("storage/models_v2/micro-ref", _PATH),
    "rho1.mode": ("weighted", one_of("weighted", "top_k")),
    "rho1.keep_fraction": (0.6, above(0, 1)),  # of top_k
    # The policy's optimiser.
    **_optimizer("optimizer", learning_rate=1e-3),
    "freeze": ((), each(PATTERN, "a tuple of regular expressions")),  # of parameter paths that stay as they are
    # The run.
    "train.steps": (200, COUNT),
    "train.batch_size": (32, COUNT),  # rows per step
    "train.accumulation": (1, COUNT),  # micro-batches per step
    "train.log_every": (10, COUNT),
    "train.checkpoint_every": (100, COUNT),
    "train.keep_checkpoints": (2, COUNT),
    "train.max_skipped": (10, COUNT),  # non-finite steps in a row before the run stops
    # The devices, as data x fsdp x tensor; -1 takes those that are left. data splits the rows of a batch, fsdp rows and
    # parameters, tensor attention heads, feed-forward width and vocabulary.
    "mesh.data": (-1, DEVICES),
    "mesh.fsdp": (1, DEVICES),
    "mesh.tensor": (1, DEVICES),
    "evaluation.batch_size": (64, COUNT),
    "evaluation.problems": (100, at_least(0)),  # of the validation split, for greedy pass@1; 0 leaves it out
    "evaluation.max_new_tokens": (96, COUNT),
    "evaluation.timeout_s": (5.0, Range(lambda v: 0 < v <= 86400, "seconds above 0, at most 86400, a day")),
    "evaluation.sandbox": ("bwrap", one_of("bwrap", "none")),
    "export.layout": ("meta", one_of("meta", "hf")),  # hf keeps the next-token head alone
    "export.dtype": ("float32", one_of("float32", "float16", "bfloat16")),
    "mlflow": (True, ANY),  # mirror the run to MLflow where it is installed
}


def get_config() -> ConfigDict:
    """The baseline on the shipped micro model and the embedded tasks."""
    config = ConfigDict()
    for name, (default, _) in FIELDS.items():
        *groups, field = name.split(".")
        group = config
        for part in groups:
            if part not in group:
                group[part] = ConfigDict()
            group = group[part]
        group[field] = default.copy_and_resolve_references() if isinstance(default, ConfigDict) else default
    return config
