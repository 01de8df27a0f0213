"""Prefill and decode: the two compiled functions of generation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from wmtp_jax.decoding.cached import CachedModel
from wmtp_jax.decoding.sampling import SamplingParams, sampling_probs
from wmtp_jax.decoding.speculation import accept_greedy, accept_sampled, draw_drafts
from wmtp_jax.model import ModelConfig
from wmtp_jax.model.block import take_tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """A batch of unfinished sequences, with one slot per position in tokens and cache alike.

    Attributes:
        tokens: int32 [B, T], prompt and what was generated; meaningless from `lengths` on.
        heads: int32 [B, T], the head that proposed a generated token: 1, or the drafting head whose draft was accepted.
        lengths: int32 [B], known tokens; the last of them has not been fed yet.
        limits: int32 [B], lengths at which the rows end.
        done: bool [B].
        drafts: int32 [B, N - 1], proposals of heads 2..N for the positions from `lengths` on.
        draft_probs: fp32 [B, N - 1, V] they were drawn from; None when greedy.
        keys: random key per row.
        cache: KV caches of all layers; slots past the fed tokens are stale and rewritten before they are seen.
    """

    tokens: jax.Array
    heads: jax.Array
    lengths: jax.Array
    limits: jax.Array
    done: jax.Array
    drafts: jax.Array
    draft_probs: jax.Array | None
    keys: jax.Array
    cache: dict


@functools.partial(jax.jit, static_argnames=("config", "chunk", "n_prompt_slots", "dtype"))
def prefill(
    layers,
    config: ModelConfig,
    tokens,
    lengths,
    limits,
    key,
    indices,
    eos_id,
    sampling: SamplingParams | None,
    *,
    chunk: int,
    n_prompt_slots: int,
    dtype,
) -> DecodeState:
    """Feeds the prompts, `chunk` positions at a time, and generates the first token of every row.

    The number of chunks is a run-time value: one program serves all prompts of up to n_prompt_slots tokens, and the
    score matrix of the attention stays at [B, H, chunk, n_prompt_slots].

    Args:
        layers: from `unstack_layers`, of as many heads as the architecture has.
        config: the architecture.
        tokens: int32 [B, T], prompts padded on the right; T is a multiple of chunk.
        lengths: int32 [B], of the prompts; 0 for a row that is not in use.
        limits: int32 [B], as in `DecodeState`, at most T - N + 1: a block of drafts may begin with the last token.
        key: of all randomness.
        indices: int32 [B], tells the rows' random numbers apart.
        eos_id: token that ends a row, -1 for none.
        sampling: None for greedy.
        chunk: positions per pass.
        n_prompt_slots: slots that hold every prompt; the others are not read.
        dtype: of the computation.
    """
    model, B = CachedModel(layers, config, dtype, n_prompt_slots), tokens.shape[0]
    last_Bx1 = jnp.maximum(lengths - 1, 0)[:, None]

    def body(index, carry):
        cache, last_Bx1xD = carry
        first = index * chunk
        block_BxC = jax.lax.dynamic_slice_in_dim(tokens, first, chunk, axis=1)
        positions_BxC = jnp.broadcast_to(first + jnp.arange(chunk), block_BxC.shape)
        trunk_BxCxD, cache = model.trunk(block_BxC, positions_BxC, cache)
        cache = model.fill_head_caches(trunk_BxCxD, positions_BxC, cache)
        offset_Bx1 = last_Bx1 - first
        here_Bx1xD = take_tokens(trunk_BxCxD, jnp.clip(offset_Bx1, 0, chunk - 1))
        ends_here = ((offset_Bx1 >= 0) & (offset_Bx1 < chunk))[:, :, None]
        return cache, jnp.where(ends_here, here_Bx1xD, last_Bx1xD)

    n_chunks = jnp.max(last_Bx1) // chunk + 1
    empty = model.empty_cache(*tokens.shape), jnp.zeros((B, 1, config.dim), dtype)
    cache, last_Bx1xD = jax.lax.fori_loop(0, n_chunks, body, empty)
    state = DecodeState(
        tokens=tokens,
        heads=jnp.zeros_like(tokens),
        lengths=lengths,
        limits=limits,
        done=lengths == 0,
        drafts=jnp.zeros((B, 0), jnp.int32),
        draft_probs=None if sampling is None else jnp.zeros((B, 0, config.vocab_size)),
        keys=jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices),
        cache=cache,
    )
    return _extend(model, state, last_Bx1xD, last_Bx1, eos_id, sampling)


@functools.partial(jax.jit, static_argnames=("config", "dtype"), donate_argnames=("state",))
def decode(
    layers, config: ModelConfig, state: DecodeState, eos_id, sampling: SamplingParams | None, n_forwards, *, dtype
) -> DecodeState:
    """Up to n_forwards forward passes over the batch; stops when every row is done.

    Each pass feeds the last token and the drafts, keeps the drafts that head 1 confirms and adds head 1's own token
    (Gloeckle et al. 2024, arXiv 2404.19737, section 3.2). With N = 1 this is ordinary decoding. The buffers of the
    state, from `prefill` or an earlier `decode`, are reused.
    """
    model, block = CachedModel(layers, config, dtype), jnp.arange(config.n_future_tokens)

    def unfinished(carry):
        index, state = carry
        return (index < n_forwards) & ~jnp.all(state.done)

    def forward(carry):
        index, state = carry
        last_Bx1 = jnp.maximum(state.lengths - 1, 0)[:, None]
        last_token_Bx1 = jnp.take_along_axis(state.tokens, last_Bx1, axis=1)
        block_BxN = jnp.concatenate([last_token_Bx1, state.drafts], axis=1)
        positions_BxN = last_Bx1 + block
        # A finished row is fed again and again: it rewrites the same slots and nothing of it is kept.
        trunk_BxNxD, cache = model.trunk(block_BxN, positions_BxN, state.cache)
        state = dataclasses.replace(state, cache=cache)
        return index + 1, _extend(model, state, trunk_BxNxD, positions_BxN, eos_id, sampling)

    return jax.lax.while_loop(unfinished, forward, (0, state))[1]


def _extend(
    model: CachedModel, state: DecodeState, trunk_BxSxD, fed_BxS, eos_id, sampling: SamplingParams | None
) -> DecodeState:
    """Verifies the drafts with head 1, appends what is accepted, drafts with heads 2..N from the last token kept."""
    B, S, _ = trunk_BxSxD.shape
    rows, offsets = jnp.arange(B), jnp.arange(S)
    positions_BxS = state.lengths[:, None] + offsets
    logits_BxSxV, cache = model.first_head(trunk_BxSxD, fed_BxS, state.cache)
    if sampling is None:
        new_BxS, n_accepted_B = accept_greedy(state.drafts, logits_BxSxV)
    else:
        probs_BxSxV = sampling_probs(logits_BxSxV, sampling)
        keys_BxS = _position_keys(state.keys, positions_BxS)
        new_BxS, n_accepted_B = accept_sampled(state.drafts, state.draft_probs, probs_BxSxV, keys_BxS)

    # A block may run past the end: past the row's limit, or past an EOS inside it.
    room_B = state.limits - state.lengths
    counts_BxS = (offsets <= n_accepted_B[:, None]) & (offsets < room_B[:, None]) & ~state.done[:, None]
    eos_BxS = counts_BxS & (new_BxS == eos_id)
    counts_BxS &= jnp.cumsum(eos_BxS, axis=1) - eos_BxS == 0
    n_new_B = counts_BxS.sum(axis=1)
    lengths = state.lengths + n_new_B
    slots_BxS = jnp.where(counts_BxS, positions_BxS, state.tokens.shape[1])
    heads_BxS = jnp.where(offsets < n_accepted_B[:, None], offsets + 2, 1)

    draft_logits, cache = model.drafters(trunk_BxSxD, fed_BxS, cache, n_accepted_B)
    if sampling is None:
        drafts, draft_probs = jnp.argmax(draft_logits, axis=-1).astype(jnp.int32), None
    else:
        draft_probs = sampling_probs(draft_logits, sampling)
        drafts = draw_drafts(draft_probs, _position_keys(state.keys, lengths[:, None] + jnp.arange(model.n_drafters)))
    return dataclasses.replace(
        state,
        tokens=state.tokens.at[rows[:, None], slots_BxS].set(new_BxS, mode="drop"),
        heads=state.heads.at[rows[:, None], slots_BxS].set(heads_BxS, mode="drop"),
        lengths=lengths,
        done=state.done | eos_BxS.any(axis=1) | (lengths >= state.limits),
        drafts=drafts,
        draft_probs=draft_probs,
        cache=cache,
    )


def _position_keys(keys_B, positions_BxS):
    return jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))(keys_B, positions_BxS)
