"""Reads torch.save files without torch: a zip of stored bytes, and a pickle of which five names are allowed.

A pickle can call anything it names. So the unpickler here knows inert stand-ins for exactly what a state dict
needs and refuses every other name before anything is called.
"""

import collections
import contextlib
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from converters.errors import ConverterError
from converters.tensor import DTYPES, StoredTensor, check_tensor_name
from wmtp_jax.errors import shown

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
_LARGEST_PICKLE = 8 * 2**20  # The 291 tensors of a 7B model take 60 KB.


class _StorageType(NamedTuple):
    type_name: str
    itemsize: int


class _Storage(NamedTuple):
    key: str
    kind: _StorageType
    count: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_ignored):
    numbers = (offset, *shape, *strides)
    sound = isinstance(storage, _Storage) and len(shape) == len(strides) <= 8
    if not sound or any(type(number) is not int or number < 0 for number in numbers):
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
        asked = f"{module}.{name}"
        raise ConverterError(
            f"{self._path}: its pickle asks for {asked if len(asked) < 80 else shown(asked)}; only tensors in a plain "
            "state dict are read, nothing was run; do not trust this file, or save model.state_dict() again"
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
    with open(path, "rb") as file:
        with _any_error(f"{path}: is not a zip of torch.save (1.6 or later), or is truncated; fetch or save it again"):
            root, pickled, entries = _read_archive(path, file)
        with _any_error(f"{path}: its data.pkl is malformed; restore it from its source"):
            _check_memo(pickled)
            state = _StateDictUnpickler(pickled, path).load()
            tensors = dict(dict.items(state)) if isinstance(state, dict) else {}  # A pickle can replace state.items.
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in tensors):
            raise ConverterError(f"{path}: holds a {type(state).__name__}; expected a state dict of names and tensors")
        for name in tensors:
            check_tensor_name(path, name)
        return {name: _stored(path, file, root, name, view, entries) for name, view in tensors.items()}


@contextlib.contextmanager
def _any_error(sentence: str) -> Iterator[None]:
    """A damaged zip, as a malformed pickle, can raise anything at all."""
    try:
        yield
    except ConverterError:
        raise
    except Exception as error:
        raise ConverterError(f"{sentence} ({shown(str(error))})") from error


def _read_archive(path: Path, file) -> tuple[str, bytes, dict[str, zipfile.ZipInfo]]:
    """Root folder of the archive, its pickle, and its entries by name."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ConverterError(f"{path}: has a duplicate entry in its zip; restore it from its source")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ConverterError(f"{path}: a zip without exactly one data.pkl; expected a file of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        order = entries.get(root + "byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
            raise ConverterError(f"{path}: big-endian numbers are not read; save it on a little-endian machine")
        if entries[pickles[0]].file_size > _LARGEST_PICKLE:
            raise ConverterError(f"{path}: its data.pkl is larger than {_LARGEST_PICKLE >> 20} MiB; refused")
        return root, archive.read(pickles[0]), entries


def _check_memo(pickled: bytes) -> None:
    """Refuses memo indices beyond the number of memo entries: the unpickler allocates a table up to the largest one."""
    count = 0
    for opcode, index, _ in pickletools.genops(pickled):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if index > count:
                raise pickle.UnpicklingError(f"memo index {index} after {count} entries")
            count += 1
        elif opcode.name == "MEMOIZE":
            count += 1


def _stored(path, file, root, name, view, entries) -> StoredTensor:
    if not isinstance(view, _View):
        raise ConverterError(f"{path}: the entry {name} is a {type(view).__name__}, not a tensor; save the state dict")
    kind = view.storage.kind
    entry = entries.get(f"{root}data/{view.storage.key}")
    nbytes = view.storage.count * kind.itemsize
    if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size != nbytes:
        raise ConverterError(f"{path}: the bytes of {name} are missing, compressed or cut short; restore the file")
    steps = [math.prod(view.shape[axis + 1 :]) for axis in range(len(view.shape))]
    if any(size != 1 and stride != step for size, stride, step in zip(view.shape, view.strides, steps, strict=True)):
        raise ConverterError(f"{path}: tensor {name} is a strided view; save it again with .contiguous()")
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ConverterError(f"{path}: the zip entry of {name} is damaged; restore the file from its source")
    begin = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))  # A name and an extra field follow.
    reach = view.offset + math.prod(view.shape)
    if reach > view.storage.count or begin + reach * kind.itemsize > path.stat().st_size:
        raise ConverterError(f"{path}: tensor {name} reaches beyond its storage; restore the file from its source")
    offset = begin + view.offset * kind.itemsize
    return StoredTensor(name, path, offset, view.shape, DTYPES.get(kind.type_name), kind.type_name)
