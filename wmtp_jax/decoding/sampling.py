"""The distribution a token is drawn from: temperature, top-k and nucleus filtering of a head's logits."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How to draw from logits; greedy decoding has none.

    A filter that is off is None, hence part of the compiled program's structure: without filters nothing is sorted.

    Attributes:
        temperature: logits are divided by it; > 0.
        top_p: mass of the nucleus in (0, 1), or None.
        top_k: number of most probable tokens that are kept, or None.
    """

    temperature: float
    top_p: float | None = None
    top_k: int | None = dataclasses.field(default=None, metadata={"static": True})


def sampling_probs(logits: jax.Array, sampling: SamplingParams) -> jax.Array:
    """Probabilities of logits [..., V] after temperature, top-k and top-p: fp32, zero outside the filters, sum 1.

    The nucleus (Holtzman et al. 2019, arXiv 1904.09751) is the smallest set of most probable tokens whose mass reaches
    top_p, never empty. Equal probabilities rank by token id, so both filters keep a definite set.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32) / sampling.temperature, axis=-1)
    if sampling.top_p is None and sampling.top_k is None:
        return probabilities
    order = jnp.argsort(-probabilities, axis=-1, stable=True)
    ranked = jnp.take_along_axis(probabilities, order, axis=-1)
    rank = jnp.arange(ranked.shape[-1])
    if sampling.top_k is not None:
        ranked = jnp.where(rank < sampling.top_k, ranked, 0.0)
        ranked = ranked / ranked.sum(axis=-1, keepdims=True)
    if sampling.top_p is not None:
        mass_before = jnp.cumsum(ranked, axis=-1) - ranked
        ranked = jnp.where((rank == 0) | (mass_before < sampling.top_p), ranked, 0.0)
        ranked = ranked / ranked.sum(axis=-1, keepdims=True)
    return jnp.take_along_axis(ranked, jnp.argsort(order, axis=-1), axis=-1)
