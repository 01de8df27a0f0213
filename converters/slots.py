"""The matrices of a model: what every layout stores somewhere, under some name and in some order of numbers.

A slot is one matrix: a leaf of the param tree, or one layer of a stacked leaf. Between reading and writing its
numbers stand as in a torch weight of Meta's layout: (out, in), query and key rows in interleaved RoPE order.
"""

import dataclasses
import math

import numpy as np

from wmtp_jax.model import ModelConfig


@dataclasses.dataclass(frozen=True, order=True)
class Slot:
    """One matrix of the model.

    Attributes:
        leaf: dotted path in the param tree, as in "trunk.attention.wq".
        layer: index on the leaf's leading axis; None for leaves that are not stacked.
    """

    leaf: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.leaf if self.layer is None else f"{self.leaf}[{self.layer}]"


# How a layout keeps a slot's numbers.
PLAIN = "as is"  # as a torch weight (out, in), or a vector
TRANSPOSED = "transposed"  # (in, out), as our kernels
HALF_SPLIT = "rope permuted"  # (out, in), rows of each head in the half-split RoPE order of Hugging Face


def leaf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape per leaf of the param tree, by dotted path (the same as `wmtp_jax.model.param_shapes`)."""
    D, H, K, Q = config.dim, config.n_heads, config.n_kv_heads, config.head_dim
    F, V = config.ffn_dim, config.vocab_size
    block = {
        "attention.wq": (D, H, Q),
        "attention.wk": (D, K, Q),
        "attention.wv": (D, K, Q),
        "attention.wo": (H, Q, D),
        "feed_forward.w1": (D, F),
        "feed_forward.w3": (D, F),
        "feed_forward.w2": (F, D),
        "attention_norm.scale": (D,),
        "ffn_norm.scale": (D,),
    }
    stacked = lambda stack, depth: {f"{stack}.{name}": (depth, *shape) for name, shape in block.items()}
    shapes = {
        "tok_embeddings.embedding": (V, D),
        **stacked("trunk", config.n_trunk_layers),
        **stacked("heads", config.n_future_tokens),
        "norm.scale": (D,),
    }
    return shapes if config.tie_embeddings else {**shapes, "output.kernel": (D, V)}


def is_stacked(leaf: str) -> bool:
    """Whether the leaf's leading axis counts layers."""
    return leaf.startswith(("trunk.", "heads."))


def slots_of(leaf: str, shape: tuple[int, ...]) -> list[Slot]:
    """The slots of one leaf of the given shape."""
    return [Slot(leaf, layer) for layer in range(shape[0])] if is_stacked(leaf) else [Slot(leaf)]


def slots(config: ModelConfig) -> list[Slot]:
    """Every slot of the model, leaf by leaf."""
    return [slot for leaf, shape in leaf_shapes(config).items() for slot in slots_of(leaf, shape)]


def torch_shape(leaf: str, leaf_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one slot of the leaf as a torch weight: (out, in), or (D,)."""
    shape = leaf_shape[1:] if is_stacked(leaf) else leaf_shape
    if len(shape) == 1 or leaf == "tok_embeddings.embedding":
        return shape
    if leaf.endswith("attention.wo"):
        return shape[-1], math.prod(shape[:-1])
    return math.prod(shape[1:]), shape[0]


def to_torch(stored: np.ndarray, form: str, shape: tuple[int, ...], head_dim: int) -> np.ndarray:
    """The slot's numbers as a torch weight of Meta's layout.

    Args:
        stored: as the layout keeps it, in `form`.
        form: PLAIN, TRANSPOSED or HALF_SPLIT.
        shape: the slot's torch shape.
        head_dim: Q, for HALF_SPLIT.

    Returns:
        [out, in] or [D]; a view of `stored` unless rows are permuted.
    """
    if form == TRANSPOSED:
        return stored.reshape(shape[::-1]).T
    if form == HALF_SPLIT:
        return stored.reshape(-1, 2, head_dim // 2, shape[1]).swapaxes(1, 2).reshape(shape)
    return stored


def from_torch(matrix: np.ndarray, form: str, head_dim: int) -> np.ndarray:
    """The inverse of `to_torch`: [in, out], [out, in] or [D]; a view unless rows are permuted."""
    if form == TRANSPOSED:
        return matrix.T
    if form == HALF_SPLIT:
        return matrix.reshape(-1, head_dim // 2, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)
    return matrix


def copy_tiled(target: np.ndarray, source: np.ndarray, tile: int = 64) -> None:
    """target[...] = source; a transposition goes in square tiles, so that whole cache lines are read and written.

    Args:
        target: row-major, at most three axes.
        source: of the same shape and itemsize, in any order.
        tile: width in elements.
    """
    fast_in = min(range(target.ndim), key=lambda axis: source.strides[axis])
    fast_out = target.ndim - 1
    if fast_in == fast_out:
        target[...] = source
        return
    if target.ndim == 3:
        pick = (slice(None),) * (3 - fast_in - fast_out)
        for i in range(target.shape[len(pick)]):
            copy_tiled(target[(*pick, i)], source[(*pick, i)], tile)
        return
    for i in range(0, target.shape[0], tile):
        for j in range(0, target.shape[1], tile):
            target[i : i + tile, j : j + tile] = source[i : i + tile, j : j + tile]
