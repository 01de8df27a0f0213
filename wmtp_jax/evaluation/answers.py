"""Answers of a model to problems: decoded, written to a sample file, or judged at once during training."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.data import Tokenizer, encode_prompt
from wmtp_jax.decoding import generate_text, unstack_layers
from wmtp_jax.evaluation.problems import EvaluationError, Problem
from wmtp_jax.evaluation.samples import Answer, RowFile, draft_measures
from wmtp_jax.model import ModelConfig
from wmtp_jax.progress import Progress
from wmtp_jax.sandbox import check_programs

TIMEOUT_S = 5.0
MEMORY_BYTES = 512 << 20


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded; the fields are arguments of `generate`."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    speculate: bool = True
    seed: int = 0
    batch_size: int = 32
    dtype: str = "float32"


def require_room(problems: Sequence[Problem], tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Checks that every prompt leaves room for an answer, before the first is written.

    Raises:
        EvaluationError: names the first problem whose prompt fills the model's context.
    """
    for problem in problems:
        length = len(encode_prompt(problem.prompt, tokenizer))
        if length >= config.max_seq_len:
            raise EvaluationError(
                f"{problem.task_id}: the prompt has {length} tokens, which leaves no room in the model's context of "
                f"{config.max_seq_len}; take a model with a longer context, or ask without worked examples."
            )


def answer_problems(
    params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    indices: Sequence[int],
    decoding: Decoding,
) -> list[Answer]:
    """Decodes one answer per problem.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: one per answer; a problem may come several times.
        indices: of the answers in the whole job; they and the seed determine all randomness.
        decoding: how.

    Raises:
        DecodingError: a prompt that does not fit the context, or a setting that makes no sense.
    """
    prompts = [encode_prompt(problem.prompt, tokenizer) for problem in problems]
    stops = [re.compile(problem.stop) for problem in problems]
    settings = dataclasses.asdict(decoding) | {"dtype": jnp.dtype(decoding.dtype)}
    answers = []
    for result in generate_text(params, config, tokenizer, prompts, stops=stops, prompt_indices=indices, **settings):
        accepted = result.accepted(config.n_future_tokens) if decoding.speculate else []
        answers.append(Answer(result.text, result.stop_reason, len(result.tokens), result.forward_passes, accepted))
    return answers


def write_samples(
    file: RowFile,
    params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    n_samples: int,
    decoding: Decoding,
) -> list[dict]:
    """Decodes the samples that a file lacks, in batches whose bounds do not depend on what it has.

    Args:
        file: of the samples.
        params: parameters of the model; donated.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: to be answered.
        n_samples: per problem.
        decoding: how.

    Returns:
        All rows, problem by problem.
    """
    params = unstack_layers(
        params, n_heads=config.n_future_tokens if decoding.speculate else 1, dtype=decoding.dtype, donate=True
    )
    keys = [(problem, sample) for problem in problems for sample in range(n_samples)]
    with Progress(len(keys), "samples") as progress:
        for start in range(0, len(keys), decoding.batch_size):
            batch = keys[start : start + decoding.batch_size]
            if all((problem.task_id, sample) in file.rows for problem, sample in batch):
                progress.skip(len(batch))
                continue
            indices = range(start, start + len(batch))
            answers = answer_problems(params, config, tokenizer, [each for each, _ in batch], indices, decoding)
            for (problem, sample), answer in zip(batch, answers, strict=True):
                if (problem.task_id, sample) not in file.rows:
                    file.append({"task_id": problem.task_id, "sample": sample, **dataclasses.asdict(answer)})
            progress.advance(len(batch))
    return [file.rows[problem.task_id, sample] for problem, sample in keys]


def try_problems(
    params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    max_new_tokens: int,
    timeout_s: float = TIMEOUT_S,
    sandbox: str = "bwrap",
) -> dict[str, float]:
    """Solves each problem once, greedily, and runs the programs against their tests: the measures of a validation.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: with what judges them.
        max_new_tokens: most tokens per program.
        timeout_s: wall-clock seconds per program.
        sandbox: "bwrap", or "none" for programs that are trusted.

    Returns:
        {"pass_at_1": share of problems solved, "tokens_per_forward": new tokens per forward pass}.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    answers = answer_problems(params, config, tokenizer, problems, range(len(problems)), Decoding(max_new_tokens))
    verdicts = check_programs(
        [problem.program(answer.text) for problem, answer in zip(problems, answers, strict=True)],
        timeout_s=timeout_s,
        memory_bytes=MEMORY_BYTES,
        workers=os.cpu_count() or 1,
        sandbox=sandbox,
    )
    passed = sum(verdict.passed for verdict in verdicts)
    return {
        "pass_at_1": passed / len(problems),
        "tokens_per_forward": draft_measures(answers)["tokens_per_forward"],
    }


def model_digest(config: ModelConfig, params) -> str:
    """SHA-256 of architecture and weights: samples of one model are not continued with another's."""
    digest = hashlib.sha256(repr(config).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).view(np.uint8))
    return digest.hexdigest()
