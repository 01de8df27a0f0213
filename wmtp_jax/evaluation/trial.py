"""Let a model solve problems and run what it wrote: the short way, in memory, for use during training."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from wmtp_jax.data import Tokenizer, encode_prompt
from wmtp_jax.decoding import Generation, generate
from wmtp_jax.evaluation.execution import check_programs
from wmtp_jax.evaluation.passing import pass_at_k
from wmtp_jax.evaluation.problems import Problem
from wmtp_jax.model import ModelConfig

TIMEOUT_S = 3.0
MEMORY_BYTES = 512 << 20


@dataclass(frozen=True)
class Trial:
    """What a model's programs are worth.

    Attributes:
        pass_at_1: mean over problems of the share of samples that pass.
        tokens_per_forward: new tokens per forward pass after the prefill; 1 without drafts.
        acceptance: share of verification passes that kept the draft of head 2, 3, ...
        reasons: how many samples ended how ("passed", "wrong answer", ...).
        samples: one row per sample: task_id, sample, completion, passed, reason, stop_reason.
    """

    pass_at_1: float
    tokens_per_forward: float
    acceptance: list[float]
    reasons: dict[str, int]
    samples: list[dict] = field(repr=False)


def try_problems(
    params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    max_new_tokens: int,
    n_samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    speculate: bool = True,
    seed: int = 0,
    batch_size: int = 32,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    workers: int | None = None,
    sandbox: str = "bwrap",
    progress: Callable[[int, int], None] | None = None,
) -> Trial:
    """Generates `n_samples` programs per problem and runs them against the problem's tests.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: with assert tests.
        max_new_tokens: most tokens per program.
        n_samples: programs per problem; more than one needs a temperature.
        temperature: 0 for greedy.
        top_p: mass of the nucleus.
        speculate: draft with the model's own heads.
        seed: of all randomness.
        batch_size: programs written together.
        timeout_s: wall-clock seconds per program.
        memory_bytes: address space per program.
        workers: programs run side by side; by default one per core.
        sandbox: "bwrap", or "none" for programs that are trusted.
        progress: called with (programs judged, programs).

    Returns:
        The `Trial`.
    """
    prompts = [encode_prompt(problem.prompt, tokenizer) for problem in problems for _ in range(n_samples)]
    asked = [problem for problem in problems for _ in range(n_samples)]
    stops = [re.compile(problem.stop) for problem in asked]

    def ended(place: int, tokens: list[int], heads: list[int]) -> bool:
        return stops[place].search(tokenizer.decode_continuation(prompts[place], tokens)) is not None

    judged = 0

    def count() -> None:
        nonlocal judged
        judged += 1
        progress(judged, len(asked))

    results = generate(
        params,
        config,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        eos_id=tokenizer.eos_id,
        speculate=speculate,
        seed=seed,
        batch_size=batch_size,
        watch=ended,
    )
    texts = [
        tokenizer.decode_continuation(prompt, result.tokens) for prompt, result in zip(prompts, results, strict=True)
    ]
    verdicts = check_programs(
        [problem.program(text) for problem, text in zip(asked, texts, strict=True)],
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        workers=workers or os.cpu_count() or 1,
        sandbox=sandbox,
        on_verdict=(lambda index, verdict: count()) if progress else None,
    )
    samples = [
        {
            "task_id": problem.task_id,
            "sample": place % n_samples,
            "completion": problem.answer(text),
            "passed": verdict.passed,
            "reason": verdict.reason,
            "stop_reason": result.stop_reason,
        }
        for place, (problem, text, verdict, result) in enumerate(zip(asked, texts, verdicts, results, strict=True))
    ]
    passed = np.array([row["passed"] for row in samples]).reshape(len(problems), n_samples).sum(1)
    return Trial(
        pass_at_1=float(np.mean([pass_at_k(n_samples, int(c), 1) for c in passed])),
        **draft_measures(results, config.n_future_tokens),
        reasons=dict(Counter(row["reason"] for row in samples).most_common()),
        samples=samples,
    )


def draft_measures(results: Sequence[Generation], n_future_tokens: int) -> dict:
    """Tokens per forward pass and acceptance per draft position, over all results together.

    The prefill writes the first token with head 1 and is counted with it, as one forward pass with one token.
    """
    forwards = sum(result.forward_passes for result in results)
    verifications = max(forwards - len(results), 1)
    accepted = np.sum([result.accepted(n_future_tokens) for result in results], axis=0)
    return {
        "tokens_per_forward": sum(len(result.tokens) for result in results) / forwards,
        "acceptance": [float(count) / verifications for count in accepted],
    }
