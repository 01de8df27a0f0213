"""What a model answers: completions of problems' prompts, with what they cost."""

import bisect
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from wmtp_jax.data import Tokenizer, encode_prompt
from wmtp_jax.decoding import Generation, generate
from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.problems import Problem
from wmtp_jax.model import ModelConfig


@dataclass(frozen=True)
class Decoding:
    """How answers are written; the fields mean what they mean for `generate`."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    speculate: bool = True
    seed: int = 0
    batch_size: int = 32
    dtype: str = "float32"


@dataclass(frozen=True)
class Answer:
    """One completion.

    Attributes:
        text: what the model wrote, up to the problem's stop rule.
        stop_reason: "eos", "stop" (the rule) or "length".
        tokens: number of new tokens.
        forward_passes: through the model; the prefill counts 1.
        accepted: how often the draft of head 2, 3, ... was kept; empty where none was made.
    """

    text: str
    stop_reason: str
    tokens: int
    forward_passes: int
    accepted: list[int]

    @classmethod
    def from_row(cls, row: dict) -> "Answer":
        """The answer in a row of a sample file.

        Raises:
            EvaluationError: a field is missing or of another kind.
        """
        answer = cls(*(row.get(field.name) for field in dataclasses.fields(cls)))
        readable = isinstance(answer.text, str) and isinstance(answer.accepted, list)
        if not readable or not all(type(n) is int for n in (answer.tokens, answer.forward_passes, *answer.accepted)):
            raise EvaluationError(
                f"sample {row.get('sample')} of {row.get('task_id')} is damaged: expected the text and counts of "
                f"{', '.join(field.name for field in dataclasses.fields(cls)[2:])}; write the samples again."
            )
        return answer


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
    """Writes one answer per problem.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer.
        problems: one per answer; a problem may come several times.
        indices: of the answers in the whole job; with the seed they settle all randomness.
        decoding: how.

    Raises:
        DecodingError: a prompt that does not fit the context, or a setting that makes no sense.
    """
    prompts = [encode_prompt(problem.prompt, tokenizer) for problem in problems]
    rules = [re.compile(problem.stop) for problem in problems]

    def ended(place: int, tokens: list[int], heads: list[int]) -> bool:
        return rules[place].search(tokenizer.decode_continuation(prompts[place], tokens)) is not None

    settings = dataclasses.asdict(decoding) | {"dtype": jnp.dtype(decoding.dtype)}
    results = generate(
        params, config, prompts, eos_id=tokenizer.eos_id, prompt_indices=indices, watch=ended, **settings
    )
    answers = []
    for problem, prompt, rule, result in zip(problems, prompts, rules, results, strict=True):
        result = _cut(tokenizer, prompt, rule, result)
        text = problem.answer(tokenizer.decode_continuation(prompt, result.tokens))
        accepted = result.accepted(config.n_future_tokens) if decoding.speculate else []
        answers.append(Answer(text, result.stop_reason, len(result.tokens), result.forward_passes, accepted))
    return answers


def _cut(tokenizer: Tokenizer, prompt: list[int], rule: re.Pattern, result: Generation) -> Generation:
    """The result up to the token that completes the stop rule's match, whenever that was noticed."""
    matches = lambda n: rule.search(tokenizer.decode_continuation(prompt, result.tokens[:n])) is not None
    if not matches(len(result.tokens)):
        return result
    n = bisect.bisect_left(range(len(result.tokens)), True, key=lambda last: matches(last + 1)) + 1
    return dataclasses.replace(result, tokens=result.tokens[:n], heads=result.heads[:n], stop_reason="stop")


def draft_measures(answers: Sequence[Answer]) -> dict:
    """Tokens per forward pass, and acceptance per draft position, over all answers together.

    Returns:
        {"tokens_per_forward": tokens / forward passes, prefill included; "acceptance": per head from 2 on, the share of
        verification passes that kept its draft}.
    """
    forwards = sum(answer.forward_passes for answer in answers)
    accepted = np.sum([answer.accepted for answer in answers], axis=0)
    return {
        "tokens_per_forward": sum(answer.tokens for answer in answers) / forwards,
        "acceptance": [float(count) / max(forwards - len(answers), 1) for count in accepted],
    }
