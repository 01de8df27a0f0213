"""The one table type of this package: which tensor of a file holds which weight, and the transform between the two.

In    a tensor as its layout stores it: (out, in) as torch does, Hugging Face's order of rows, or a whole leaf
Out   a weight: a leaf of the param tree, or one layer of a stacked leaf, as a matrix (in, out) or a vector
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converters.errors import ConverterError
from wmtp_jax.errors import shown
from wmtp_jax.model import ModelConfig, leaf_shapes

# What turns a stored tensor into its weight.
AS_IS = "as is"
TRANSPOSED = "transposed"
ROPE_PERMUTED = "transposed, rope permuted"  # the rows of each head are in the half-split RoPE order of Hugging Face


@dataclasses.dataclass(frozen=True)
class Weight:
    """One matrix or vector of the model.

    Attributes:
        leaf: dotted path in the param tree, as in "trunk.attention.wq".
        layer: index on the leaf's leading axis; None for leaves that are not stacked.
    """

    leaf: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.leaf if self.layer is None else f"{self.leaf}[{self.layer}]"


@dataclasses.dataclass(frozen=True)
class TensorRef:
    """Where a layout stores a weight: in which tensor, behind which transform, as which layer of a stacked leaf."""

    tensor: str
    transform: str
    layer: int | None = None


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a source says beyond the architecture; it is written again when the model returns to that layout.

    `config` is its whole config file, `tied_copy` whether tied embeddings were stored again as the output matrix.
    """

    layout: str
    config: dict[str, Any]
    tied_copy: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way to keep a model in files.

    Attributes:
        name: as on the command line.
        title: as in sentences.
        config_names: of the config file; the first one is written.
        weight_names: of the weights, in order of preference.
        stem: of the weight files that are written.
        table: leaf (of a block: its path in the block) -> (name of the tensor, transform).
        block: (config, "trunk" or "heads", layer) -> prefix of the block's tensors; None when tensors are whole leaves
            of the param tree, named by their paths.
        tied_name: tensor that repeats tied embeddings; None when the layout never has one.
        writes_tied_copy: whether it is written when no source says otherwise.
        ignored: names of tensors without parameters.
        read_config: (config file, its path, shape per tensor) -> the architecture, and whether the embeddings are
            tied (None: the file does not say).
        write_config: (architecture, the source's config file or {}, dtype name, whether an untied output equals the
            embeddings) -> config file.
    """

    name: str
    title: str
    config_names: tuple[str, ...]
    weight_names: tuple[str, ...]
    stem: str
    table: Mapping[str, tuple[str, str]]
    block: Callable[[ModelConfig, str, int], str] | None
    tied_name: str | None
    writes_tied_copy: bool
    ignored: re.Pattern
    read_config: Callable[[dict, str, Mapping[str, tuple]], tuple[ModelConfig, bool | None]]
    write_config: Callable[[ModelConfig, dict, str, bool], dict[str, Any]]

    def ref(self, config: ModelConfig, weight: Weight) -> TensorRef:
        """Where this layout stores the weight."""
        if self.block is None:
            return TensorRef(weight.leaf, AS_IS, weight.layer)
        if weight.layer is None:
            return TensorRef(*self.table[weight.leaf])
        stack, _, leaf = weight.leaf.partition(".")
        name, transform = self.table[leaf]
        return TensorRef(f"{self.block(config, stack, weight.layer)}.{name}", transform)

    def refs(self, config: ModelConfig) -> dict[Weight, TensorRef]:
        """Where it stores every weight, leaf by leaf."""
        return {weight: self.ref(config, weight) for leaf in leaf_shapes(config) for weight in weights_of(config, leaf)}

    def tensor_shapes(self, config: ModelConfig, tied_copy: bool = False) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of a model in this layout."""
        shapes = leaf_shapes(config)
        if self.block is None:
            return shapes
        found = {}
        for weight, ref in self.refs(config).items():
            shape = weight_shape(weight.leaf, shapes[weight.leaf])
            found[ref.tensor] = shape if ref.transform == AS_IS else shape[::-1]
        if config.tie_embeddings and tied_copy:
            found[self.tied_name] = (config.vocab_size, config.dim)
        return found


def is_stacked(leaf: str) -> bool:
    """Whether the leaf's leading axis counts layers."""
    return leaf.startswith(("trunk.", "heads."))


def weights_of(config: ModelConfig, leaf: str) -> list[Weight]:
    """The weights of one leaf, layer by layer."""
    depth = config.n_trunk_layers if leaf.startswith("trunk.") else config.n_future_tokens
    return [Weight(leaf, layer) for layer in range(depth)] if is_stacked(leaf) else [Weight(leaf)]


def weight_shape(leaf: str, leaf_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one weight of the leaf: (in, out), or (D,). Heads are folded: wq [D,H,Q] -> (D, HQ)."""
    shape = leaf_shape[1:] if is_stacked(leaf) else leaf_shape
    if len(shape) < 3:
        return shape
    inner = 2 if leaf.endswith("attention.wo") else 1
    return math.prod(shape[:inner]), math.prod(shape[inner:])


def to_weight(stored: np.ndarray, transform: str, shape: tuple[int, ...], head_dim: int) -> np.ndarray:
    """The weight, of the given shape (in, out) or (D,), in a stored tensor; a view unless rows are permuted."""
    if transform == AS_IS:
        return stored.reshape(shape)
    if transform == ROPE_PERMUTED:
        stored = stored.reshape(-1, 2, head_dim // 2, shape[0]).swapaxes(1, 2).reshape(shape[::-1])
    return stored.T


def from_weight(weight: np.ndarray, transform: str, head_dim: int) -> np.ndarray:
    """The inverse of `to_weight`; a view unless rows are permuted."""
    if transform == AS_IS:
        return weight
    rows = weight.T
    if transform == ROPE_PERMUTED:
        rows = rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
    return rows


def copy_tiled(target: np.ndarray, source: np.ndarray, tile: int = 64) -> None:
    """target[...] = source; a transposition goes in square tiles, so that whole cache lines are read and written.

    The target is row-major with at most three axes, the source of its shape in any order.
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


_FIELD_KINDS = {
    int: ("an integer below 2**31", lambda value: type(value) is int and abs(value) < 2**31),
    float: ("a positive number", lambda value: type(value) in (int, float) and 0 < value < 1e30),
    bool: ("true or false", lambda value: type(value) is bool),
    str: ("a string", lambda value: type(value) is str),
    dict: ("an object", lambda value: type(value) is dict),
}


class Fields:
    """Typed reading of the fields of a config file; those that are never asked for stay in `unread`."""

    def __init__(self, record: dict[str, Any], where: str):
        self.record, self.where, self.unread = record, where, set(record)

    def get(self, name: str, kind: type, default=None):
        """The field's value, of a kind in `_FIELD_KINDS`; null counts as absent and gives the default."""
        self.unread.discard(name)
        value = self.record.get(name)
        if value is None:
            return default
        expected, fits = _FIELD_KINDS[kind]
        if not fits(value):
            raise ConverterError(f"{self.where}: the field {name!r} is {shown(value)}; expected {expected}")
        return kind(value)

    def required(self, name: str) -> int:
        """An integer that has to be there."""
        value = self.get(name, int)
        if value is None:
            raise ConverterError(f"{self.where}: the field {name!r} is missing; expected an integer")
        return value
