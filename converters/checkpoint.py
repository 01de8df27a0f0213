"""A model in files: which layout, which architecture, where each slot lies. Opening reads no weights but tied ones."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from converters.arrangement import arrangement_of
from converters.errors import ConverterError, check_tensors
from converters.hugging_face import HUGGING_FACE
from converters.json_file import read_json
from converters.layout import Layout, Origin, Place
from converters.meta import META
from converters.slots import Slot, leaf_shapes, to_torch, torch_shape
from converters.stored import StoredTensor, as_bits, check_finite, same_bytes
from converters.tree import TREE
from converters.value_head import check_value_head, take_value_head
from converters.weights import find_weights, list_tensors
from wmtp_jax.model import ModelConfig

LAYOUTS = {layout.name: layout for layout in (META, HUGGING_FACE, TREE)}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened directory whose tensors are known to fit its config.

    Attributes:
        config_path: the config file.
        weights: the weight file, or the index of several.
        tensors: by name, without the ignored ones.
        ignored: names of tensors that carry no parameters.
        places: where each slot lies.
        origin: what the files say beyond the architecture.
        value_head: of a reward model, [1, D]; else None.
    """

    directory: Path
    layout: Layout
    config_path: Path
    weights: Path
    config: ModelConfig
    tensors: dict[str, StoredTensor]
    ignored: tuple[str, ...]
    places: dict[Slot, Place]
    origin: Origin
    value_head: StoredTensor | None

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Leaf shapes of the param tree."""
        return leaf_shapes(self.config)

    @property
    def files(self) -> list[Path]:
        """Every file that the model is read from: config, weights and their index, value head."""
        paths = {self.config_path, self.weights} | {tensor.path for tensor in self.tensors.values()}
        return sorted(paths | ({self.value_head.path} if self.value_head else set()))

    def dtype(self, slot: Slot) -> np.dtype:
        """Element type in the file."""
        return self.tensors[self.places[slot].tensor].dtype

    def matrix(self, slot: Slot) -> np.ndarray:
        """Reads one slot as a torch weight of Meta's layout, in the file's dtype.

        Raises:
            ConverterError: NaN or infinity among the values, or a file that ends early.
        """
        place = self.places[slot]
        stored = self.tensors[place.tensor].read(place.layer)
        layer = "" if place.layer is None else f" (layer {place.layer})"
        check_finite(stored, f"{place.tensor}{layer} of {self.tensors[place.tensor].path}")
        shape = torch_shape(slot.leaf, self.shapes[slot.leaf])
        return to_torch(as_bits(stored), place.form, shape, self.config.head_dim).view(stored.dtype)


def open_checkpoint(directory: str | Path, layout: str | None = None) -> Checkpoint:
    """Opens a model directory and checks that its tensors are exactly those of its architecture.

    Args:
        directory: of a model in any layout, its files side by side or in folders (`converters.arrangement`).
        layout: "meta", "hf" or "flax"; None looks at the config file.

    Raises:
        ConverterError: not a model, damaged, or tensors that do not fit the config.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ConverterError(f"{directory}: no such directory; expected one that holds a model")
    arrangement = arrangement_of(directory)
    configs = directory / arrangement.configs
    chosen = LAYOUTS[layout] if layout else _detect(configs)
    config_path = next((configs / name for name in chosen.config_names if (configs / name).exists()), None)
    if config_path is None:
        raise ConverterError(f"{configs}: has no {chosen.config_names[0]}; expected a model in {chosen.title} layout")
    record = read_json(config_path)
    weights = find_weights(directory / arrangement.weights, chosen.weight_names)
    found = list_tensors(weights)
    ignored = tuple(name for name in found if chosen.ignored.fullmatch(name))
    tensors = {name: tensor for name, tensor in found.items() if name not in ignored}
    tensors, value_head = take_value_head(tensors, weights)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config, tied = chosen.read_config(record, str(config_path), shapes)
    config, tied_copy = _decide_tied(chosen, config, tied, tensors, config_path)
    check_tensors(str(directory), chosen.tensor_shapes(config, tied_copy), shapes, config_path.name)
    for tensor in tensors.values():
        tensor.check_dtype()
    if value_head is not None:
        check_value_head(value_head, config.dim)
    origin = Origin(chosen.name, record, tied_copy)
    if chosen is TREE and isinstance(record.get("origin"), dict):
        origin = _stored_origin(record["origin"], config_path)
    places = chosen.places(config)
    return Checkpoint(directory, chosen, config_path, weights, config, tensors, ignored, places, origin, value_head)


def _detect(directory: Path) -> Layout:
    found = [layout for layout in LAYOUTS.values() if (directory / layout.config_names[0]).exists()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{layout.config_names[0]} ({layout.title})" for layout in found or LAYOUTS.values())
    if found:
        raise ConverterError(f"{directory}: holds {names}, so its layout is ambiguous; say which one is meant")
    raise ConverterError(f"{directory}: is not a model directory; expected one of {names} beside the weights")


def _decide_tied(layout, config, tied, tensors, config_path) -> tuple[ModelConfig, bool]:
    """Whether the embeddings are tied, and whether the file repeats them as the output matrix.

    Tied is what the config file says. Where it says nothing (Meta's does not): a missing output matrix means tied,
    and so does one that equals the embeddings bit by bit.
    """
    embedding = tensors.get(layout.place(config, Slot("tok_embeddings.embedding")).tensor)
    output = tensors.get(layout.tied_name)
    if output is None or embedding is None or tied is False:
        tied = output is None if tied is None else tied
        return dataclasses.replace(config, tie_embeddings=tied), False
    equal = (
        output.shape == embedding.shape and output.type_name == embedding.type_name and same_bytes(output, embedding)
    )
    if tied and not equal:
        raise ConverterError(
            f"{config_path}: says that the embeddings are tied, but {output.name} differs from {embedding.name}; "
            "correct the config or remove the tensor"
        )
    return dataclasses.replace(config, tie_embeddings=equal), equal


def _stored_origin(record: dict, where: Path) -> Origin:
    layout, config, tied_copy = record.get("layout"), record.get("config"), record.get("tied_copy")
    if layout not in LAYOUTS or not isinstance(config, dict) or not isinstance(tied_copy, bool):
        raise ConverterError(f"{where}: the field 'origin' is malformed; expected layout, config and tied_copy")
    return Origin(layout, config, tied_copy)
