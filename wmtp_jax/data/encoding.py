"""Records to token ids: BOS, prompt, response, EOS; which of them are targets, and what they weigh."""

import dataclasses

import numpy as np

from wmtp_jax.data.records import Record
from wmtp_jax.data.templates import render
from wmtp_jax.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Example:
    """One tokenized record.

    Attributes:
        tokens: int32 [n], BOS + prompt + response + EOS.
        target_mask: bool [n], True on the response's tokens and the EOS.
        is_correct, task_id, difficulty: The record's.
        weights: float32 [n], the record's weight of each target token, 0 on the prompt; None when it gives none.
    """

    tokens: np.ndarray
    target_mask: np.ndarray
    is_correct: bool | None
    task_id: str
    difficulty: str = ""
    weights: np.ndarray | None = None


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """BOS and the ids of a rendered prompt (see `templates.render`), in training and in generation alike."""
    return [tokenizer.bos_id, *tokenizer.encode(prompt)]


def encode_record(record: Record, tokenizer: Tokenizer, template: str, max_length: int) -> Example | None:
    """Encodes a record as BOS + prompt + response + EOS; None when that is over `max_length`: no solution is ever cut.

    Prompt and response are encoded apart, so that a prompt has the ids in training that it has in generation.
    """
    prompt_ids = encode_prompt(render(record, template), tokenizer)
    response_ids = [*tokenizer.encode_continuation(record.output), tokenizer.eos_id]
    length = len(prompt_ids) + len(response_ids)
    if length > max_length:
        return None
    weights = None
    if record.weights is not None:
        weights = np.zeros(length, np.float32)
        weights[len(prompt_ids) :] = response_weights(record, response_ids[:-1], tokenizer)
    return Example(
        tokens=np.array(prompt_ids + response_ids, np.int32),
        target_mask=np.arange(length) >= len(prompt_ids),
        is_correct=record.is_correct,
        task_id=record.task_id,
        difficulty=record.difficulty,
        weights=weights,
    )


def response_weights(record: Record, ids: np.ndarray | list[int], tokenizer: Tokenizer) -> np.ndarray:
    """The weight of each token of a record's output, of which these are the ids, and of EOS, which has 1.

    A token has the mean weight of the characters that it covers, a byte of a character that of the character.

    Returns:
        float32 [number of tokens + 1].

    Raises:
        DataError: The tokens do not spell the output, see `Tokenizer.spans`.
    """
    weights = np.ones(len(ids) + 1, np.float32)
    if record.weights:
        of_character = np.ones(len(record.output))
        for begin, end, weight in record.weights:
            of_character[begin:end] = weight
        spans = tokenizer.spans(ids, record.output)
        # Each span is summed by itself: differences of a running sum would lose small weights behind large ones.
        sums = np.add.reduceat(np.append(of_character, 0.0), spans.ravel())[::2]
        weights[:-1] = sums / (spans[:, 1] - spans[:, 0])
    return weights
