"""Params in memory as a source of slots, and their leaves by dotted path."""

from typing import Any

import numpy as np

from converters.errors import ConverterError, check_tensors
from converters.layout import Origin
from converters.slots import Slot, leaf_shapes, to_torch, torch_shape
from converters.stored import DTYPES, as_bits, check_finite
from converters.tree import TREE
from wmtp_jax.model import ModelConfig


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested dict by dotted path."""
    leaves = {}
    for name, value in tree.items():
        leaves |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def unflatten(leaves: dict[str, Any]) -> dict:
    """The inverse of `flatten`."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *stacks, name = path.split(".")
        node = tree
        for stack in stacks:
            node = node.setdefault(stack, {})
        node[name] = leaf
    return tree


class Parameters:
    """A param tree whose leaves are brought to the host one at a time.

    Args:
        config: the architecture.
        params: nested dict of arrays, as of `wmtp_jax.model.init_params`.
        origin: what the checkpoint says that they came from, or None.

    Raises:
        ConverterError: leaves that do not fit the architecture, or of a dtype that has no place in files.
    """

    def __init__(self, config: ModelConfig, params: dict, origin: Origin | None):
        self.config, self.origin, self.value_head = config, origin, None
        self.shapes = leaf_shapes(config)
        self._leaves = flatten(params)
        self._held: tuple[str, np.ndarray] | None = None
        found = {path: tuple(np.shape(leaf)) for path, leaf in self._leaves.items()}
        check_tensors("params", self.shapes, found, "the given ModelConfig")
        for path, leaf in self._leaves.items():
            if np.dtype(leaf.dtype) not in DTYPES.values():
                raise ConverterError(f"params: {path} has the dtype {leaf.dtype}; expected one of {', '.join(DTYPES)}")

    def dtype(self, slot: Slot) -> np.dtype:
        """Element type of the slot's leaf."""
        return np.dtype(self._leaves[slot.leaf].dtype)

    def matrix(self, slot: Slot) -> np.ndarray:
        """One slot as a torch weight of Meta's layout.

        Raises:
            ConverterError: NaN or infinity among the values.
        """
        if self._held is None or self._held[0] != slot.leaf:
            self._held = None
            self._held = slot.leaf, np.asarray(self._leaves[slot.leaf])
        leaf = self._held[1]
        values = np.ascontiguousarray(leaf if slot.layer is None else leaf[slot.layer])
        check_finite(values, f"{slot} of the params")
        form = TREE.place(self.config, slot).form
        shape = torch_shape(slot.leaf, self.shapes[slot.leaf])
        return to_torch(as_bits(values), form, shape, self.config.head_dim).view(values.dtype)
