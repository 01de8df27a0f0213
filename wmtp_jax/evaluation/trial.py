"""Let a model solve problems and run what it wrote: the short way, in memory, for use during training."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from wmtp_jax.data import Tokenizer
from wmtp_jax.evaluation.answers import Decoding, answer_problems, draft_measures
from wmtp_jax.evaluation.passing import pass_at_k
from wmtp_jax.evaluation.problems import Problem
from wmtp_jax.model import ModelConfig
from wmtp_jax.sandbox import check_programs

TIMEOUT_S = 5.0
MEMORY_BYTES = 512 << 20


@dataclass(frozen=True)
class Trial:
    """What a model's programs are worth.

    Attributes:
        pass_at_1: mean over problems of the share of samples that pass.
        tokens_per_forward: new tokens per forward pass; 1 without drafts.
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
    """Writes `n_samples` programs per problem and runs them against the problem's tests.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: with what judges them.
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

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    asked = [problem for problem in problems for _ in range(n_samples)]
    decoding = Decoding(max_new_tokens, temperature, top_p, speculate=speculate, seed=seed, batch_size=batch_size)
    answers = answer_problems(params, config, tokenizer, asked, range(len(asked)), decoding)
    judged = 0

    def count(index: int, verdict) -> None:
        nonlocal judged
        judged += 1
        if progress:
            progress(judged, len(asked))

    verdicts = check_programs(
        [problem.program(answer.text) for problem, answer in zip(asked, answers, strict=True)],
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        workers=workers or os.cpu_count() or 1,
        sandbox=sandbox,
        on_verdict=count,
    )
    passed = np.array([verdict.passed for verdict in verdicts]).reshape(len(problems), n_samples).sum(1)
    return Trial(
        pass_at_1=float(np.mean([pass_at_k(n_samples, int(c), 1) for c in passed])),
        **draft_measures(answers),
        reasons=dict(Counter(verdict.reason for verdict in verdicts).most_common()),
        samples=[
            {
                "task_id": problem.task_id,
                "sample": place % n_samples,
                "completion": answer.text,
                "passed": verdict.passed,
                "reason": verdict.reason,
                "stop_reason": answer.stop_reason,
            }
            for place, (problem, answer, verdict) in enumerate(zip(asked, answers, verdicts, strict=True))
        ],
    )
