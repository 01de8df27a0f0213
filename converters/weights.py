"""Finds the weight files of a directory and lists the tensors in them, whatever their format."""

from pathlib import Path

from converters.errors import ConverterError
from converters.json_file import read_json
from converters.safetensors_file import read_safetensors
from converters.stored import StoredTensor
from converters.torch_file import read_torch


def find_weights(directory: Path, candidates: tuple[str, ...]) -> Path:
    """The weights of a directory: the first candidate that exists, else its only safetensors file or index.

    A value head that lies beside them in a file of its own is not taken for weights.

    Raises:
        ConverterError: none, or more than one.
    """
    for name in candidates:
        if (directory / name).exists():
            return directory / name
    if (directory / "consolidated.01.pth").exists():
        raise ConverterError(
            f"{directory}: holds consolidated.01.pth, one part of a model-parallel model; merge the parts first"
        )
    found = sorted(directory.glob("*.safetensors.index.json")) or sorted(directory.glob("*.safetensors"))
    found = [path for path in found if path.name != "value_head.safetensors"]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise ConverterError(
            f"{directory}: holds several weight files and no index ({names}); keep one, or add the index"
        )
    raise ConverterError(f"{directory}: no weights found; expected one of {', '.join(candidates)}")


def list_tensors(weights: Path) -> dict[str, StoredTensor]:
    """Every tensor of a weight file, or of the shards that an index names.

    Raises:
        ConverterError: a damaged file, or an index that does not match its shards.
    """
    return _list_shards(weights) if weights.name.endswith(".index.json") else _list_file(weights)


def _list_file(path: Path) -> dict[str, StoredTensor]:
    if not path.is_file():
        raise ConverterError(f"{path}: no such file")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)


def _list_shards(index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConverterError(f"{index}: has no weight_map; expected tensor names with the files that hold them")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard != Path(shard).name or "\\" in shard or shard in ("", ".", ".."):
            raise ConverterError(
                f"{index}: places {name} in {shard!r}; only bare names of files beside the index are read"
            )
    tensors: dict[str, StoredTensor] = {}
    for shard in dict.fromkeys(weight_map.values()):
        for name, tensor in _list_file(index.parent / shard).items():
            if weight_map.get(name) != shard:
                said = f"places it in {weight_map[name]}" if name in weight_map else "does not know it"
                raise ConverterError(f"{index.parent / shard}: holds {name}, but {index.name} {said}; restore both")
            tensors[name] = tensor
    missing = [name for name in weight_map if name not in tensors]
    if missing:
        raise ConverterError(
            f"{index}: places {missing[0]} in {weight_map[missing[0]]}, which does not hold it "
            f"({len(missing)} such tensors); restore both"
        )
    return tensors
