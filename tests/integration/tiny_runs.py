"""Small training runs: cut data, the command with small settings, and the steps whose numbers golden.json keeps.

Everything here that reaches into the package's inside stands in this one file.
"""

import gzip
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import converters
from wmtp_jax.data import load_tokenizer
from wmtp_jax.errors import UserError
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives import objective_class
from wmtp_jax.sandbox import run_program
from wmtp_jax.train import main
from wmtp_jax.training.config import parse
from wmtp_jax.training.optimizer import make_optimizer
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import make_critic_step, make_train_step

ROOT = Path(__file__).parents[2]
MICROCODE, MODELS = ROOT / "storage/datasets_v2/microcode", ROOT / "storage/models_v2"
N_STEPS, BATCH_SIZE, LENGTH = 3, 4, 96

# Name of the golden run -> config and options. All of verifiable start from the critic that stage 1's steps give.
GOLDEN_RUNS = {
    "baseline": ("baseline", []),
    "verifiable": ("verifiable", []),
    "verifiable_uniform": ("verifiable", ["weighting.control=uniform"]),
    "verifiable_shuffled": ("verifiable", ["weighting.control=shuffled"]),
    "verifiable_random": ("verifiable", ["weighting.control=random"]),
    "verifiable_solution_mean": ("verifiable", ["weighting.control=solution_mean"]),
    "verifiable_next_token": ("verifiable", ["loss.heads=next_token"]),
    "verifiable_all_samples": (
        "verifiable",
        ["data.policy_samples=all", "critic.value_clip=0.001", "critic.target_decay=0.5"],
    ),
    "verifiable_other_settings": (
        "verifiable",
        [
            "critic.lambda_alpha=0.05",
            "critic.returns=lambda",
            "critic.loss=bce",
            "critic.trunk_gradient=0.1",
            "critic.gamma=0.99",
            "data.pairs=True",
            "weighting.statistics=ema",
            "train.accumulation=2",
        ],
    ),
    "rho1": ("rho1_weighted", []),
    "rho1_top_k": ("rho1_weighted", ["rho1.mode=top_k"]),
}


def run_train(config: str, workdir: Path, data: Path, *options: str) -> int:
    """Exit code of `python -m wmtp_jax.train` with small settings."""
    return main(arguments(config, workdir, data, *options))


def arguments(config: str, workdir: Path, data: Path, *options: str) -> list[str]:
    """The command line of a run of 4 steps in each stage, `options` as `field=value`."""
    settings = [
        f"data.train={data / 'train.jsonl.gz'}",
        f"data.valid={data / 'valid.jsonl.gz'}",
        f"data.buckets=({LENGTH},)",
        f"train.batch_size={BATCH_SIZE}",
        f"critic.batch_size={BATCH_SIZE}",
        "train.steps=4",
        "train.log_every=1",
        "train.checkpoint_every=2",
        "critic.steps=4",
        "critic.evaluate_every=2",
        "evaluation.problems=3",
        "evaluation.batch_size=6",
        "evaluation.max_new_tokens=64",
        *options,
    ]
    return ["--config", f"{ROOT}/configs/{config}.py", "--workdir", str(workdir), *(f"--config.{s}" for s in settings)]


def cut_data(directory: Path, n_train: int = 64, n_valid: int = 12) -> Path:
    """The first records of the embedded tasks, four per problem: two correct solutions, two incorrect ones."""
    for name, count in (("train", n_train), ("valid", n_valid)):
        with (
            gzip.open(MICROCODE / f"{name}.jsonl.gz", "rt", encoding="utf-8") as source,
            gzip.open(directory / f"{name}.jsonl.gz", "wt", encoding="utf-8") as cut,
        ):
            cut.writelines(itertools.islice(source, count))
    return directory


def why_programs_cannot_run() -> str | None:
    """What is missing for the sandbox on this machine; None when programs run."""
    try:
        run_program("pass", timeout_s=10, memory_bytes=1 << 28)
    except UserError as error:
        return str(error)
    return None


def fixed_batches() -> list[dict[str, np.ndarray]]:
    """Batches made here, without the data pipeline: rows 2i and 2i + 1 are a correct and an incorrect solution of the
    i-th problem of the file.
    """
    tokenizer = load_tokenizer(MODELS / "micro-mtp")
    with gzip.open(MICROCODE / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in itertools.islice(file, 4 * N_STEPS * BATCH_SIZE)]
    solutions: dict[str, dict[bool, dict]] = {}
    for record in records:
        solutions.setdefault(record["instruction"], {}).setdefault(record["is_correct"], record)
    rows = [of[label] for of in solutions.values() if len(of) == 2 for label in (True, False)]
    reference_config, reference_params = converters.load(MODELS / "micro-ref")
    logits_of = jax.jit(MTPTransformer(reference_config).apply)
    batches = []
    for first in range(0, N_STEPS * BATCH_SIZE, BATCH_SIZE):
        tokens, segment_ids, target_mask = (np.zeros((BATCH_SIZE, LENGTH), np.int32) for _ in range(3))
        for b, record in enumerate(rows[first : first + BATCH_SIZE]):
            prompt = [tokenizer.bos_id, *tokenizer.encode(record["instruction"])]
            ids = [*prompt, *tokenizer.encode_continuation(record["output"]), tokenizer.eos_id]
            tokens[b, : len(ids)] = ids
            segment_ids[b, : len(ids)] = 1
            target_mask[b, len(prompt) : len(ids)] = 1
        logits = logits_of({"params": reference_params}, tokens, segment_ids)[:, :-1, 0]
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)[..., 0]
        batches.append(
            {
                "tokens": tokens,
                "segment_ids": segment_ids,
                "target_mask": target_mask.astype(bool),
                "is_correct": np.array([1, 0] * (BATCH_SIZE // 2), np.int8),
                "reference_nll": np.asarray(jnp.pad(nll, ((0, 0), (1, 0)))),
            }
        )
    return batches


def stage1_numbers(batches: list[dict], *options: str) -> tuple[list[dict[str, float]], dict]:
    """Numbers of each step of the critic's training, and the critic."""
    config, model, params, objective, value_params = _parts("verifiable", options)
    optimizer = make_optimizer(config.critic.optimizer, N_STEPS)
    critic_step = jax.jit(make_critic_step(model, objective, optimizer))
    state, rows = create_state(value_params, optimizer), []
    for batch in batches:
        state, metrics = critic_step(params, state, batch)
        rows.append(_plain(metrics))
    rows[-1] |= _movement("critic", value_params, state.params)
    return rows, state.params


def stage2_numbers(run: str, batches: list[dict], value_params: dict, *options: str) -> list[dict[str, float]]:
    """Numbers of each step of a golden run: metrics, the weights as head 1's loss sees them, and how far each part of
    the parameters has moved at the end.
    """
    name, own_options = GOLDEN_RUNS[run]
    config, model, params, objective, fresh_value_params = _parts(name, [*own_options, *options])
    value_params = None if fresh_value_params is None else value_params
    decide = objective.policy_targets

    def show_coefficients(*inputs):
        targets, statistics, metrics = decide(*inputs)
        return targets, statistics, metrics | {"coefficients": targets["coefficients"][0]}

    objective.policy_targets = show_coefficients
    optimizer = make_optimizer(config.optimizer, N_STEPS, head_weights=objective.head_weights)
    value_optimizer = make_optimizer(config.critic.stage2_optimizer, N_STEPS)

    train_step = jax.jit(make_train_step(model, objective, optimizer, value_optimizer))
    state, rows = create_state(params, optimizer, value_params=value_params, value_optimizer=value_optimizer), []
    for batch in batches:
        state, metrics = train_step(state, batch)
        coefficients_BxS = np.asarray(metrics.pop("coefficients"), np.float64)
        rows.append(_plain(metrics) | _weight_numbers(coefficients_BxS))
    for part in params:
        rows[-1] |= _movement(part, params[part], state.params[part])
    if value_params is not None:
        rows[-1] |= _movement("critic", value_params, state.value_params)
    return rows


def golden_numbers() -> dict[str, list[dict[str, float]]]:
    """Golden run -> numbers of each step."""
    batches = fixed_batches()
    critic_rows, value_params = stage1_numbers(batches)
    return {"stage1": critic_rows} | {run: stage2_numbers(run, batches, value_params) for run in GOLDEN_RUNS}


def _parts(name: str, options):
    config = parse(["--config", f"{ROOT}/configs/{name}.py", *(f"--config.{option}" for option in options)]).config
    model_config, params = converters.load(MODELS / "micro-mtp", dtype="float32")
    model = MTPTransformer(model_config)
    objective = objective_class(config.objective)(config, model_config.n_future_tokens)
    return config, model, params, objective, objective.init_value_params(model) if objective.critic else None


def _plain(metrics: dict) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(metrics.items())}


def _weight_numbers(coefficients_BxS: np.ndarray) -> dict[str, float]:
    """Sum and position-dependent checksum of head 1's coefficients: any weight on another token moves the second."""
    place_BxS = np.cos(np.arange(coefficients_BxS.size)).reshape(coefficients_BxS.shape)
    return {
        "weights_nonzero": float(np.count_nonzero(coefficients_BxS)),
        "weights_sum": float(coefficients_BxS.sum()),
        "weights_square_sum": float((coefficients_BxS**2).sum()),
        "weights_checksum": float((coefficients_BxS * place_BxS).sum()),
    }


def _movement(name: str, before: dict, after: dict) -> dict[str, float]:
    """How far the leaves have moved together (float64), and where the whole of them stands."""
    leaves = [[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)] for tree in (before, after)]
    moved = np.concatenate([(b - a).ravel() for a, b in zip(*leaves, strict=True)])
    return {
        f"moved/{name}/norm": float(np.linalg.norm(moved)),
        f"moved/{name}/sum": float(moved.sum()),
        f"params/{name}/norm": float(np.sqrt(sum((leaf**2).sum() for leaf in leaves[1]))),
    }
