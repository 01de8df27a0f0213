"""A model in files: found, its layout detected, and opened; reads no weights but those of tied embeddings."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converters.errors import ConverterError, check_tensors
from converters.hugging_face import HUGGING_FACE
from converters.layout import Layout, Origin, TensorRef, Weight, to_weight, weight_shape
from converters.meta import META
from converters.tensor import StoredTensor, as_bits, check_finite, read_safetensors, same_bytes
from converters.torch_file import read_torch
from converters.tree import TREE
from converters.value_head import VALUE_HEAD_FILE, check_value_head, take_value_head
from wmtp_jax.errors import shown
from wmtp_jax.jsonl import read_object
from wmtp_jax.model import ModelConfig, leaf_shapes

LAYOUTS = {layout.name: layout for layout in (META, HUGGING_FACE, TREE)}
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_TOKENIZER_FILES += ("added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt")


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where in a model's directory the weight files, the config and the tokenizer lie."""

    weights: str = "."
    configs: str = "."
    tokenizer: str = "."


FLAT = Folders()
FOLDERS = Folders(weights="safetensors", configs="configs", tokenizer="tokenizer")  # as under storage/models_v2


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened directory whose tensors are known to fit its config.

    Attributes:
        weights: the weight file, or the index of several.
        tensors: by name, without the ignored ones, which carry no parameters.
        refs: where each weight is stored.
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
    refs: dict[Weight, TensorRef]
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

    @property
    def description(self) -> dict[str, str]:
        """For the manifest of what is made of it."""
        return {"layout": self.layout.name, "directory": self.directory.resolve().name, "weights": self.weights.name}

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files of the tokenizer, which travel along unchanged."""
        folder = self.directory / _folders_of(self.directory).tokenizer
        return [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]

    def dtype(self, weight: Weight) -> np.dtype:
        """Element type in the file."""
        return self.tensors[self.refs[weight].tensor].dtype

    def read(self, weight: Weight) -> np.ndarray:
        """The weight as a matrix (in, out) or a vector, in the file's dtype.

        Raises:
            ConverterError: NaN or infinity among the values, or a file that ends early.
        """
        ref = self.refs[weight]
        stored = self.tensors[ref.tensor].read(ref.layer)
        layer = "" if ref.layer is None else f" (layer {ref.layer})"
        check_finite(stored, f"{ref.tensor}{layer} of {self.tensors[ref.tensor].path}")
        shape = weight_shape(weight.leaf, self.shapes[weight.leaf])
        return to_weight(as_bits(stored), ref.transform, shape, self.config.head_dim).view(stored.dtype)


def open_checkpoint(directory: str | Path, layout: str | None = None) -> Checkpoint:
    """Opens a model directory and checks that its tensors are exactly those of its architecture.

    Args:
        directory: of a model in any layout, its files side by side or in `FOLDERS`.
        layout: "meta", "hf" or "flax"; None takes the one whose config file is there.

    Raises:
        ConverterError: not a model, damaged, or tensors that do not fit the config.
        FileError: a config or an index that is no JSON object.
    """
    directory = Path(directory)
    if directory.is_file():
        raise ConverterError(f"{directory}: is a file; expected the directory that holds a model's config and weights")
    if not directory.is_dir():
        raise ConverterError(f"{directory}: no such directory; expected one that holds a model")
    folders = _folders_of(directory)
    configs = directory / folders.configs
    chosen = LAYOUTS[layout] if layout else _detect(configs)
    config_path = next((configs / name for name in chosen.config_names if (configs / name).exists()), None)
    if config_path is None:
        raise ConverterError(f"{configs}: has no {chosen.config_names[0]}; expected a model in {chosen.title} layout")
    record = read_object(config_path)
    weights = _find_weights(directory / folders.weights, chosen.weight_names)
    found = _list_tensors(weights)
    ignored = tuple(name for name in found if chosen.ignored.fullmatch(name))
    tensors = {name: tensor for name, tensor in found.items() if name not in ignored}
    tensors, value_head = take_value_head(tensors, weights)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config, tied = chosen.read_config(record, str(config_path), shapes)
    if chosen.block is not None and config.n_layers > max(1000, len(tensors)):  # Before that many are listed.
        raise ConverterError(
            f"{config_path}: says that there are {config.n_layers} layers, but {weights.name} holds {len(tensors)} "
            "tensors; correct one of the two"
        )
    config, tied_copy = _decide_tied(chosen, config, tied, tensors, config_path)
    check_tensors(str(directory), chosen.tensor_shapes(config, tied_copy), shapes, config_path.name)
    for tensor in tensors.values():
        tensor.check_dtype()
    if value_head is not None:
        check_value_head(value_head, config.dim)
    origin = Origin(chosen.name, record, tied_copy)
    if chosen is TREE and isinstance(record.get("origin"), dict):
        origin = _stored_origin(record["origin"], config_path)
    refs = chosen.refs(config)
    return Checkpoint(directory, chosen, config_path, weights, config, tensors, ignored, refs, origin, value_head)


def _folders_of(directory: Path) -> Folders:
    in_folders = all((directory / folder).is_dir() for folder in (FOLDERS.weights, FOLDERS.configs))
    return FOLDERS if in_folders else FLAT


def _detect(directory: Path) -> Layout:
    found = [layout for layout in LAYOUTS.values() if (directory / layout.config_names[0]).exists()]
    names = ", ".join(f"{layout.config_names[0]} ({layout.title})" for layout in found or LAYOUTS.values())
    if not found:
        raise ConverterError(f"{directory}: is not a model directory; expected one of {names} beside the weights")
    if len(found) > 1:
        raise ConverterError(f"{directory}: holds {names}, so its layout is ambiguous; say which one is meant")
    return found[0]


def _find_weights(directory: Path, candidates: tuple[str, ...]) -> Path:
    """The first candidate that exists, else the only safetensors file or index; a value head is not among them."""
    for name in candidates:
        if (directory / name).exists():
            return directory / name
    if (directory / "consolidated.01.pth").exists():
        raise ConverterError(f"{directory}: holds consolidated.01.pth, one part of a model-parallel model; merge them")
    found = sorted(directory.glob("*.safetensors.index.json")) or sorted(directory.glob("*.safetensors"))
    found = [path for path in found if path.name != VALUE_HEAD_FILE]
    if not found:
        raise ConverterError(f"{directory}: no weights found; expected one of {', '.join(candidates)}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise ConverterError(f"{directory}: holds several weight files ({names}); keep one, or add their index")
    return found[0]


def _list_tensors(weights: Path) -> dict[str, StoredTensor]:
    """Every tensor of a weight file, or of the shards that an index names."""
    if not weights.name.endswith(".index.json"):
        return _list_file(weights)
    weight_map = read_object(weights).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConverterError(f"{weights}: has no weight_map; expected tensor names with the files that hold them")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard != Path(shard).name or "\\" in shard or shard in ("", ".", ".."):
            where = f"{weights}: places {shown(name)[1:-1]} in {shown(shard)}"
            raise ConverterError(f"{where}; only bare names of files beside the index are read")
    tensors: dict[str, StoredTensor] = {}
    for shard in dict.fromkeys(weight_map.values()):
        for name, tensor in _list_file(weights.parent / shard).items():
            if weight_map.get(name) != shard:
                said = f"places it in {weight_map[name]}" if name in weight_map else "does not know it"
                raise ConverterError(f"{weights.parent / shard}: holds {name}, but {weights.name} {said}; restore both")
            tensors[name] = tensor
    if missing := [name for name in weight_map if name not in tensors]:
        where = f"{weights}: places {shown(missing[0])[1:-1]} in {weight_map[missing[0]]}"
        raise ConverterError(f"{where}, which does not hold it ({len(missing)} such tensors); restore both")
    return tensors


def _list_file(path: Path) -> dict[str, StoredTensor]:
    if not path.is_file():
        raise ConverterError(f"{shown(str(path), 300)[1:-1]}: no such file")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)


def _decide_tied(
    layout: Layout, config: ModelConfig, tied: bool | None, tensors: Mapping[str, StoredTensor], config_path: Path
) -> tuple[ModelConfig, bool]:
    """Whether the embeddings are tied, and whether the file repeats them as the output matrix.

    Tied is what the config file says. Where it says nothing (Meta's does not): a missing output matrix means tied,
    and so does one that equals the embeddings bit by bit.
    """
    embedding = tensors.get(layout.ref(config, Weight("tok_embeddings.embedding")).tensor)
    output = tensors.get(layout.tied_name)
    if output is None or embedding is None or tied is False:
        tied = output is None if tied is None else tied
        return dataclasses.replace(config, tie_embeddings=tied), False
    equal = same_bytes(output, embedding)
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
