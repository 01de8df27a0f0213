"""From tokens to text: continuations decoded together with their prompt, and stop rules."""

import bisect
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from wmtp_jax.decoding.generation import Generation, generate
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
    stops: Sequence[re.Pattern] | None = None,
    on_tokens: Callable[[int, list[int], list[int]], bool] | None = None,
    **settings,
) -> list[Generation]:
    """`generate` up to each prompt's EOS or the first match of its stop rule; the results have a text.

    Args:
        params: parameters of the model.
        config: its architecture.
        tokenizer: its tokenizer, whose EOS ends a continuation.
        prompts: token ids, see `wmtp_jax.data.encode_prompt`.
        stops: one rule per prompt; what it matches belongs to neither text nor, but for the token that completes the
            match, tokens.
        on_tokens: as in `generate`.
        **settings: as in `generate`, except eos_id.
    """

    def ended(index: int, tokens: list[int], heads: list[int]) -> bool:
        if on_tokens is not None and on_tokens(index, tokens, heads):
            return True
        return bool(stops and stops[index].search(tokenizer.decode_continuation(prompts[index], tokens)))

    callback = ended if stops or on_tokens is not None else None
    results = generate(params, config, prompts, eos_id=tokenizer.eos_id, on_tokens=callback, **settings)
    rules = stops or [None] * len(prompts)
    return [cut(tokenizer, *row) for row in zip(prompts, results, rules, strict=True)]


def cut(tokenizer: Decoder, prompt: Sequence[int], result: Generation, stop: re.Pattern | None) -> Generation:
    """The result with its text, up to the token that completes the first match and the character where that begins.

    What was generated beyond that token has no influence, so it does not matter when decoding stopped.
    """
    text_of = lambda n: tokenizer.decode_continuation(prompt, result.tokens[:n])
    matches = lambda n: stop is not None and stop.search(text_of(n)) is not None
    lengths = range(len(result.tokens) + 1)
    if not matches(lengths[-1]):
        return dataclasses.replace(result, text=text_of(lengths[-1]))
    n = bisect.bisect_left(lengths, True, key=matches)
    text = text_of(n)
    return Generation(result.tokens[:n], result.heads[:n], "stop", text[: stop.search(text).start()])
