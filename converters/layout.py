"""What a layout has to say about itself, and what a model on disk says beyond its architecture."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from converters.slots import Slot, leaf_shapes, slots, slots_of, torch_shape
from wmtp_jax.model import ModelConfig


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layout keeps a slot: in which tensor, in which form, and on which layer of a stacked tensor."""

    tensor: str
    form: str
    layer: int | None = None


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a source says beyond the architecture; it goes back out when the model returns to that layout.

    Attributes:
        layout: name of the layout.
        config: its whole config file.
        tied_copy: tied embeddings were stored a second time as the output matrix.
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
        keeps_leaves: tensors are whole leaves of the param tree, layers stacked.
        tied_name: tensor that repeats tied embeddings; None when the layout never has one.
        writes_tied_copy: whether it is written when no source says otherwise.
        ignored: tensors without parameters, by name.
        place: where a slot lies.
        read_config: (config file, its path, shape per tensor) -> the architecture, and whether the embeddings are
            tied (None: the file does not say).
        write_config: (architecture, the source's file or {}, dtype name, whether an untied output equals the
            embeddings) -> config file.
    """

    name: str
    title: str
    config_names: tuple[str, ...]
    weight_names: tuple[str, ...]
    stem: str
    keeps_leaves: bool
    tied_name: str | None
    writes_tied_copy: bool
    ignored: re.Pattern
    place: Callable[[ModelConfig, Slot], Place]
    read_config: Callable[[dict, str, Mapping[str, tuple]], tuple[ModelConfig, bool | None]]
    write_config: Callable[[ModelConfig, dict, str, bool], dict[str, Any]]

    def places(self, config: ModelConfig) -> dict[Slot, Place]:
        """The place of every slot."""
        return {slot: self.place(config, slot) for slot in slots(config)}

    def tensor_shapes(self, config: ModelConfig, tied_copy: bool = False) -> dict[str, tuple[int, ...]]:
        """Every tensor of a model in this layout with its shape: the key table, spelled out."""
        shapes = {}
        for leaf, shape in leaf_shapes(config).items():
            for slot in slots_of(leaf, shape):
                shapes[self.place(config, slot).tensor] = shape if self.keeps_leaves else torch_shape(leaf, shape)
        if config.tie_embeddings and tied_copy:
            shapes[self.tied_name] = (config.vocab_size, config.dim)
        return shapes
