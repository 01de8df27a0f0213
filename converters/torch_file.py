"""Reads torch.save files without torch: a zip of stored bytes, and a pickle of which five names are allowed.

A pickle can call anything it names. So the unpickler here knows inert stand-ins for exactly what a state dict
needs and refuses every other name before anything is called.
"""

import collections
import dataclasses
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

from converters.errors import ConverterError
from converters.stored import DTYPES, StoredTensor

_STORAGES = {
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
_LARGEST_PICKLE = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class _StorageType:
    type_name: str
    itemsize: int


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    kind: _StorageType
    count: int


@dataclasses.dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_ignored):
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor without a storage or with impossible sizes")
    return _View(storage, offset, tuple(shape), tuple(strides))


class _StateDictUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path):
        super().__init__(io.BytesIO(data))
        self._path = path

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _STORAGES:
            return _StorageType(*_STORAGES[name])
        raise ConverterError(
            f"{self._path}: its pickle asks for {module}.{name}; only tensors in a plain state dict are read, "
            "nothing was run; do not trust this file, or save model.state_dict() again"
        )

    def persistent_load(self, identifier):
        match identifier:
            case ("storage", _StorageType() as kind, str(key), _, int(count)):
                return _Storage(key, kind, count)
        raise pickle.UnpicklingError("a storage reference of an unknown kind")


def read_torch(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a state dict lies; reads the pickle only.

    Raises:
        ConverterError: not such a file, truncated, or a pickle that names anything beyond tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if len(entries) != len(archive.infolist()):
                raise ConverterError(f"{path}: an entry of its zip stands twice; restore it from its source")
            pickles = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ConverterError(f"{path}: a zip without exactly one data.pkl; expected a file of torch.save")
            root = pickles[0].removesuffix("data.pkl")
            order = archive.read(root + "byteorder") if root + "byteorder" in entries else b"little"
            if order != b"little":
                raise ConverterError(f"{path}: big-endian numbers are not read; save it on a little-endian machine")
            if entries[pickles[0]].file_size > _LARGEST_PICKLE:
                raise ConverterError(f"{path}: its data.pkl is larger than {_LARGEST_PICKLE >> 20} MiB; refused")
            pickled = archive.read(pickles[0])
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ConverterError(
            f"{path}: is not a zip of torch.save, or is truncated ({error}); "
            "fetch it again, or save it again if torch before 1.6 wrote it"
        ) from error
    try:
        state = _StateDictUnpickler(pickled, path).load()
    except ConverterError:
        raise
    except Exception as error:  # A malformed pickle can raise anything at all.
        raise ConverterError(f"{path}: its data.pkl is malformed ({error}); restore it from its source") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ConverterError(f"{path}: holds a {type(state).__name__}; expected a state dict of names and tensors")
    data_offsets = _data_offsets(path, entries)
    return {name: _stored(path, root, name, view, entries, data_offsets) for name, view in state.items()}


def _data_offsets(path: Path, entries: dict[str, zipfile.ZipInfo]) -> dict[str, int]:
    """Where each entry's bytes start: its local header has a length of its own."""
    offsets = {}
    with open(path, "rb") as file:
        for name, entry in entries.items():
            file.seek(entry.header_offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise ConverterError(f"{path}: the zip entry {name} is damaged; restore the file from its source")
            name_length, extra_length = struct.unpack("<HH", header[26:30])
            offsets[name] = entry.header_offset + 30 + name_length + extra_length
    return offsets


def _stored(path, root, name, view, entries, data_offsets) -> StoredTensor:
    if not isinstance(view, _View):
        raise ConverterError(f"{path}: the entry {name} is a {type(view).__name__}, not a tensor; save the state dict")
    kind = view.storage.kind
    entry_name = f"{root}data/{view.storage.key}"
    entry = entries.get(entry_name)
    if (
        entry is None
        or entry.compress_type != zipfile.ZIP_STORED
        or entry.file_size != view.storage.count * kind.itemsize
    ):
        raise ConverterError(f"{path}: the bytes of {name} are missing, compressed or cut short; restore the file")
    expected = tuple(math.prod(view.shape[axis + 1 :]) for axis in range(len(view.shape)))
    steps = [(stride, step) for size, stride, step in zip(view.shape, view.strides, expected, strict=True) if size != 1]
    if any(stride != step for stride, step in steps):
        raise ConverterError(f"{path}: tensor {name} is a strided view; save it again with .contiguous()")
    if view.offset + math.prod(view.shape) > view.storage.count:
        raise ConverterError(f"{path}: tensor {name} reaches beyond its storage; restore the file from its source")
    offset = data_offsets[entry_name] + view.offset * kind.itemsize
    return StoredTensor(name, path, offset, view.shape, DTYPES.get(kind.type_name), kind.type_name)
