"""The model of decoding: a few new tokens per row against the KV caches of everything before them.

Training stacks the layers and scans over them, which compiles fast. But a scan copies every layer out of the stack
before it is used, and a pass over a few tokens takes hardly longer than reading the weights once. So the layers are
unstacked here, once, and run one after the other.
"""

import functools

import jax
import jax.numpy as jnp

from wmtp_jax.model import ModelConfig, MTPTransformer
from wmtp_jax.model.attention import empty_cache
from wmtp_jax.model.block import Block
from wmtp_jax.model.rope import rope_table


def unstack_layers(params, *, n_heads: int, dtype, donate: bool = False) -> dict:
    """Parameters for `CachedModel`. Every layer is copied: to generate more than once, unstack once and reuse.

    Args:
        params: parameters of the model.
        n_heads: number of heads to keep, counted from head 1.
        dtype: of the computation.
        donate: deletes the stacks of params one by one as they are copied, so that memory never holds the model twice.

    Returns:
        "trunk" and "heads", lists of one tree per layer; "shared", the rest.
    """

    def layers(stack, n: int | None) -> list:
        leaves, tree = jax.tree.flatten(stack)
        by_leaf = []
        for leaf in leaves:
            by_leaf.append(_rows(leaf, n or len(leaf), dtype))
            if donate and isinstance(leaf, jax.Array):
                leaf.delete()
        return [tree.unflatten(of_layer) for of_layer in zip(*by_leaf, strict=True)]

    shared = {name: tree for name, tree in params.items() if name not in ("trunk", "heads")}
    shared = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), shared)
    return {"trunk": layers(params["trunk"], None), "heads": layers(params["heads"], n_heads), "shared": shared}


@functools.partial(jax.jit, static_argnames=("n", "dtype"))
def _rows(stack, n: int, dtype) -> list[jax.Array]:
    return [stack[row].astype(dtype) for row in range(n)]


class CachedModel:
    """Trunk, head 1 and drafting heads as separate calls; each takes and returns the caches of all.

    The tokens of a row have successive positions; the one at position p writes slot p of a cache, which must exist, and
    attends to slots 0..p. So rows may be at different positions, and to roll back is to feed an earlier position again.

    Args:
        layers: from `unstack_layers`.
        config: the architecture; n_future_tokens is the number of heads among the layers.
        dtype: of the computation.
        n_attended: number of slots that hold all tokens fed; None for all slots.
    """

    def __init__(self, layers: dict, config: ModelConfig, dtype, n_attended: int | None = None):
        self.n_drafters = config.n_future_tokens - 1
        self._layers, self._config, self._dtype, self._n_attended = layers, config, dtype, n_attended
        self._shared = functools.partial(MTPTransformer(config, dtype).apply, {"params": layers["shared"]})

    def empty_cache(self, batch_size: int, n_slots: int) -> dict:
        """KV caches of every layer and head."""
        one = lambda: empty_cache(batch_size, n_slots, self._config.n_kv_heads, self._config.head_dim, self._dtype)
        return {name: [one() for _ in self._layers[name]] for name in ("trunk", "heads")}

    def trunk(self, tokens_BxS, positions_BxS, cache) -> tuple[jax.Array, dict]:
        """Trunk states [B, S, D] of new tokens: the input of every head."""
        hidden, rope, new = self._shared(tokens_BxS, method="embedded"), rope_table(positions_BxS, self._config), []
        for layer, of_layer in zip(self._layers["trunk"], cache["trunk"], strict=True):
            hidden, of_layer = self._block(layer, hidden, rope, positions_BxS, of_layer)
            new.append(of_layer)
        return hidden, cache | {"trunk": new}

    def first_head(self, trunk_BxSxD, positions_BxS, cache) -> tuple[jax.Array, dict]:
        """Logits [B, S, V] of head 1 at every token."""
        states, cache = self._heads(slice(1), trunk_BxSxD, positions_BxS, cache, None)
        return self._logits(states[0]), cache

    def drafters(self, trunk_BxSxD, positions_BxS, cache, query_positions_B) -> tuple[jax.Array, dict]:
        """Logits [B, N - 1, V] of heads 2..N at one of the S tokens per row; the others only write the caches."""
        B, _, D = trunk_BxSxD.shape
        states, cache = self._heads(slice(1, None), trunk_BxSxD, positions_BxS, cache, query_positions_B[:, None])
        no_heads = jnp.zeros((B, 0, D), self._dtype)
        return self._logits(jnp.concatenate([no_heads, *states], axis=1)), cache

    def fill_head_caches(self, trunk_BxSxD, positions_BxS, cache) -> dict:
        """Writes the keys and values of tokens into the caches of all heads."""
        any_Bx1 = jnp.zeros((trunk_BxSxD.shape[0], 1), jnp.int32)  # the states are not used, hence not computed
        return self._heads(slice(None), trunk_BxSxD, positions_BxS, cache, any_Bx1)[1]

    def _heads(self, which: slice, trunk_BxSxD, positions_BxS, cache, query_positions) -> tuple[list[jax.Array], dict]:
        rope, states, new = rope_table(positions_BxS, self._config), [], list(cache["heads"])
        for number in range(len(new))[which]:
            layer = self._layers["heads"][number]
            hidden, new[number] = self._block(layer, trunk_BxSxD, rope, positions_BxS, new[number], query_positions)
            states.append(hidden)
        return states, cache | {"heads": new}

    def _block(self, params, hidden, rope, positions_BxS, cache, query_positions=None):
        block = Block(self._config, self._dtype)
        return block.apply(
            {"params": params}, hidden, rope, None, positions_BxS, cache, query_positions, self._n_attended
        )

    def _logits(self, states) -> jax.Array:
        return self._shared(self._shared(states, method="normed"), method="logits")
