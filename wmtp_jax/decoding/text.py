"""From tokens to text: continuations decoded together with their prompt, and stop strings."""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from wmtp_jax.decoding.generation import DecodingError, Generation, generate
from wmtp_jax.model import ModelConfig


class Decoder(Protocol):
    """What decoding needs of a tokenizer."""

    eos_id: int

    def decode_continuation(self, prompt_ids: Sequence[int], new_ids: Sequence[int]) -> str:
        """The text that new ids add to a prompt, leading whitespace included."""


def generate_text(
    params,
    config: ModelConfig,
    tokenizer: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Sequence[str] = (),
    on_tokens: Callable[[int, list[int], list[int]], bool] | None = None,
    **settings,
) -> list[Generation]:
    """Continues every prompt up to its EOS or the first stop string.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer, whose EOS ends a continuation.
        prompts: token ids, see `wmtp_jax.data.encode_prompt`.
        stop: strings that end a continuation; they belong to neither text nor, but for the token that completes
            the string, tokens.
        on_tokens: as in `generate`.
        **settings: as in `generate`, except eos_id.

    Returns:
        One `Generation` per prompt, with text.

    Raises:
        DecodingError: as in `generate`, or an empty stop string.
    """
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise DecodingError(f"stop is {stop!r}; expected a list of non-empty strings")

    def ended(index: int, tokens: list[int], heads: list[int]) -> bool:
        stopped = on_tokens is not None and on_tokens(index, tokens, heads)
        return stopped or (_first_stop(tokenizer.decode_continuation(prompts[index], tokens), stop) is not None)

    callback = ended if stop or on_tokens is not None else None
    results = generate(params, config, prompts, eos_id=tokenizer.eos_id, on_tokens=callback, **settings)
    return [cut(tokenizer, prompt, result, stop) for prompt, result in zip(prompts, results, strict=True)]


def cut(tokenizer: Decoder, prompt: Sequence[int], result: Generation, stop: Sequence[str]) -> Generation:
    """The result up to the token that completes the first stop string, and its text up to where that string begins.

    What was generated beyond that token has no influence, so it does not matter when decoding stopped.

    Args:
        tokenizer: decodes.
        prompt: the ids that were continued.
        result: what was generated for them.
        stop: strings that end it.

    Returns:
        The result with its text; stop_reason is "stop" when a stop string was found.
    """
    text_of = lambda n: tokenizer.decode_continuation(prompt, result.tokens[:n])
    stopped = lambda n: _first_stop(text_of(n), stop) is not None
    text = text_of(len(result.tokens))
    if _first_stop(text, stop) is None:
        return dataclasses.replace(result, text=text)
    n = bisect.bisect_left(range(len(result.tokens)), True, key=lambda last: stopped(last + 1)) + 1
    text = text_of(n)
    return Generation(result.tokens[:n], result.heads[:n], "stop", text[: _first_stop(text, stop)])


def _first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Index at which the first stop string begins."""
    starts = [start for start in (text.find(one) for one in stop) if start >= 0]
    return min(starts, default=None)
