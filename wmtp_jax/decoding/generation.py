"""`generate`: batches of prompts in, generated tokens and what they cost out."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.decoding.cached import unstack_layers
from wmtp_jax.decoding.sampling import SamplingParams
from wmtp_jax.decoding.steps import decode, prefill
from wmtp_jax.errors import UserError, shown
from wmtp_jax.model import ModelConfig, with_heads

# Positions per pass of the prefill, and the prompt length from which the larger one pays. Two sizes only, so that few
# shapes are compiled.
_CHUNKS, _LONG_PROMPT = (64, 256), 256
# Forward passes per call, between which the host reads the state: few enough for an interrupt, too many to cost.
_FORWARDS_PER_CALL = 64
_FORWARDS_PER_CALLBACK = 4


class DecodingError(UserError):
    """A prompt or a setting that cannot be decoded with."""


@dataclasses.dataclass(frozen=True)
class Generation:
    """What was generated for one prompt.

    Attributes:
        tokens: new ids, with the EOS when one was generated.
        heads: the head that proposed each token: 1, or k > 1 for a draft of head k that head 1 confirmed.
        stop_reason: "eos"; "length" (max_new_tokens or the end of the context); "stop" (a stop rule, or the callback).
        text: the decoded continuation; filled by `generate_text`.
    """

    tokens: list[int]
    heads: list[int]
    stop_reason: str
    text: str | None = None

    @property
    def forward_passes(self) -> int:
        """Passes up to the last token, of which the prefill is one; each but the last ends with a token of head 1."""
        return 1 + self.heads[:-1].count(1)

    def accepted(self, n_future_tokens: int) -> list[int]:
        """Kept drafts of heads 2, 3, ..., N; divided by forward_passes - 1, the acceptance per draft position."""
        return [self.heads.count(head) for head in range(2, n_future_tokens + 1)]


def generate(
    params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    eos_id: int | None = None,
    speculate: bool = True,
    seed: int = 0,
    prompt_indices: Sequence[int] | None = None,
    batch_size: int = 32,
    dtype=jnp.float32,
    on_tokens: Callable[[int, list[int], list[int]], bool] | None = None,
) -> list[Generation]:
    """Continues every prompt.

    With `speculate` the model drafts with heads 2..N and verifies with head 1: greedy tokens are those of head 1 alone,
    sampled ones are distributed as those of head 1 (the draws themselves differ). What is drawn depends on (seed,
    prompt index, position) only, never on the other prompts of a batch.

    Args:
        params: parameters of the model, of which all layers are copied; or, for more than one call, what
            `unstack_layers` made of them in this dtype.
        config: its architecture.
        prompts: token ids, of any lengths.
        max_new_tokens: most tokens per prompt; the end of the context (config.max_seq_len) may come first.
        temperature: 0 for greedy.
        top_p: mass of the nucleus, 1 for all; applied after temperature and top_k.
        top_k: number of most probable tokens kept, 0 for all.
        eos_id: token that ends a continuation.
        speculate: draft with the model's own heads, when it has more than one.
        seed: of all randomness, from 0 to 2**63 - 1.
        prompt_indices: index of each prompt for the randomness, by default its index in `prompts`.
        batch_size: rows decoded together. Fewer prompts take the next power of two, so few shapes are ever compiled.
        dtype: of computation and KV cache. The two ways agree to rounding only, so compare them in fp32.
        on_tokens: called every few forward passes with (index in prompts, new tokens so far, their heads) for every
            row that it has not ended yet; True ends the row, possibly some tokens after the point that made it True.

    Returns:
        One `Generation` per prompt, in order.

    Raises:
        DecodingError: a prompt or a setting that cannot be decoded with.
    """
    indices = range(len(prompts)) if prompt_indices is None else prompt_indices
    _validate(config, prompts, indices, max_new_tokens, temperature, top_p, top_k, eos_id, batch_size, seed)
    if not prompts:
        return []
    sampling = None
    if temperature > 0:
        filters = top_p if top_p < 1 else None, top_k if 0 < top_k < config.vocab_size else None
        sampling = SamplingParams(temperature, *filters)
    if not speculate:
        config = with_heads(config, 1)
    n_heads = config.n_future_tokens
    layers = params if "shared" in params else unstack_layers(params, n_heads=n_heads, dtype=dtype)
    layers = {**layers, "heads": layers["heads"][:n_heads]}
    lengths = [len(prompt) for prompt in prompts]
    limits = [min(length + max_new_tokens, config.max_seq_len) for length in lengths]
    batch_size = min(batch_size, _power_of_two(len(prompts)))
    chunk = _CHUNKS[max(lengths) > _LONG_PROMPT]
    # The last block of drafts may reach past the limit.
    n_slots = chunk * math.ceil((max(limits) + n_heads - 1) / chunk)
    n_prompt_slots = min(chunk * _power_of_two(math.ceil(max(lengths) / chunk)), n_slots)

    key = jax.random.key(seed)
    settings = {"eos_id": -1 if eos_id is None else eos_id, "sampling": sampling, "dtype": dtype}
    step = functools.partial(decode, layers, config, **settings)
    results: list[Generation | None] = [None] * len(prompts)
    # Prompts of similar length go together: a batch prefills as far as its longest.
    by_length = sorted(range(len(prompts)), key=lambda index: lengths[index])
    for start in range(0, len(prompts), batch_size):
        members = by_length[start : start + batch_size]
        tokens_BxT = np.zeros((batch_size, n_slots), np.int32)
        lengths_B, limits_B, indices_B = (np.zeros(batch_size, np.int32) for _ in range(3))
        for row, index in enumerate(members):
            tokens_BxT[row, : lengths[index]] = prompts[index]
            lengths_B[row], limits_B[row], indices_B[row] = lengths[index], limits[index], indices[index]
        # Self-speculation is lossless in exact arithmetic; reduced-precision products (TF32) would make ties common.
        with jax.default_matmul_precision("highest"):
            rows = tokens_BxT, lengths_B, limits_B, key, indices_B
            state = prefill(layers, config, *rows, chunk=chunk, n_prompt_slots=n_prompt_slots, **settings)
            for index, result in zip(members, _finish(step, state, lengths_B, members, eos_id, on_tokens), strict=True):
                results[index] = result
    return results


def next_token_model(params, config: ModelConfig) -> tuple[dict, ModelConfig]:
    """The plain Llama inside an MTP model: the trunk with head 1 as its last layer."""
    return {**params, "heads": jax.tree.map(lambda leaf: leaf[:1], params["heads"])}, with_heads(config, 1)


def _finish(step, state, lengths_B, members, eos_id, on_tokens) -> list[Generation]:
    """Runs one batch to its end; the host reads its state only between calls of several passes."""
    stopped = np.zeros(len(lengths_B), bool)
    while True:
        done, ends, tokens, heads = map(np.asarray, (state.done, state.lengths, state.tokens, state.heads))
        new = [slice(*bounds) for bounds in zip(lengths_B, ends, strict=True)]
        if on_tokens is not None:
            for row, index in enumerate(members):
                if not stopped[row]:
                    stopped[row] = on_tokens(index, tokens[row, new[row]].tolist(), heads[row, new[row]].tolist())
            state = dataclasses.replace(state, done=state.done | stopped)
        if np.all(done | stopped):
            break
        state = step(state=state, n_forwards=_FORWARDS_PER_CALL if on_tokens is None else _FORWARDS_PER_CALLBACK)

    results = []
    for row in range(len(members)):
        ended = "eos" if eos_id is not None and tokens[row, ends[row] - 1] == eos_id else "length"
        reason = "stop" if stopped[row] else ended
        results.append(Generation(tokens[row, new[row]].tolist(), heads[row, new[row]].tolist(), reason))
    return results


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _validate(config, prompts, indices, max_new_tokens, temperature, top_p, top_k, eos_id, batch_size, seed) -> None:
    whole = lambda value: isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    positive = lambda value: whole(value) and value >= 1
    for name, value, holds, expected in (
        ("max_new_tokens", max_new_tokens, positive, "a positive integer"),
        ("batch_size", batch_size, positive, "a positive integer"),
        ("seed", seed, lambda n: whole(n) and 0 <= n < 2**63, f"an integer from 0 to {2**63 - 1}"),
        ("temperature", temperature, lambda t: 0 <= t < math.inf, "0 for greedy decoding or a positive number"),
        ("top_p", top_p, lambda p: 0 < p <= 1, "a mass in (0, 1], 1 keeps every token"),
        ("top_k", top_k, lambda k: whole(k) and k >= 0, "a number of tokens, 0 keeps all of them"),
    ):
        if not holds(value):
            raise DecodingError(f"{name} is {shown(value)}; expected {expected}")
    vocabulary = f"the model's vocabulary of {config.vocab_size}"
    is_token = lambda value: whole(value) and 0 <= value < config.vocab_size
    if eos_id is not None and not is_token(eos_id):
        raise DecodingError(f"eos_id is {shown(eos_id)}, outside {vocabulary}")
    if len(indices) != len(prompts):
        raise DecodingError(
            f"{len(indices)} prompt_indices were given for {len(prompts)} prompts; expected one for each prompt"
        )
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise DecodingError(f"prompt {index} is empty; expected at least one token, such as BOS")
        if len(prompt) >= config.max_seq_len:
            raise DecodingError(
                f"prompt {index} has {len(prompt)} tokens, which leaves no room in the model's context of "
                f"{config.max_seq_len}; shorten it to at most {config.max_seq_len - 1}"
            )
        for token in prompt:
            if not is_token(token):
                raise DecodingError(
                    f"prompt {index} holds {shown(token)}, which is no token of {vocabulary}; "
                    "was it encoded with another tokenizer?"
                )
