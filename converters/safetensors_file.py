"""The safetensors format: an 8-byte length, a JSON header, then the bytes of all tensors."""

import json
import math
import struct
from pathlib import Path

from converters.errors import ConverterError
from converters.tensor import DTYPES, StoredTensor, check_tensor_name
from wmtp_jax.jsonl import parse_object

_CODES = {"F32": DTYPES["float32"], "F16": DTYPES["float16"], "BF16": DTYPES["bfloat16"]}
_NAMES = {dtype: code for code, dtype in _CODES.items()}
# Element sizes of what we do not read, so that such a file is refused for its dtype and not as malformed.
_OTHER_SIZES = {"F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LARGEST_HEADER = 100 * 2**20


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a file lies; reads the header only.

    Raises:
        ConverterError: not a safetensors file, truncated, or a header that does not describe the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > min(_LARGEST_HEADER, size - 8) or file.read(1) != b"{":
            raise ConverterError(f"{path}: is not a safetensors file, or its header is truncated; restore it")
        header = parse_object(b"{" + file.read(length - 1), f"{path} (header)")
    header.pop("__metadata__", None)
    start = 8 + length
    tensors, regions = {}, []
    for name, entry in header.items():
        check_tensor_name(path, name)
        tensor, region = _tensor(path, name, entry, start)
        tensors[name] = tensor
        regions.append((*region, name))
    end = 0
    for begin, stop, name in sorted(regions):
        if begin != end:
            raise ConverterError(f"{path} (header): the bytes of {name} overlap others or leave a gap; restore it")
        end = stop
    if start + end != size:
        fault = "is truncated" if start + end > size else "has bytes that belong to no tensor"
        raise ConverterError(f"{path}: {fault} ({size} bytes, the header describes {start + end}); restore it")
    return tensors


def _tensor(path: Path, name: str, entry, start: int) -> tuple[StoredTensor, tuple[int, int]]:
    malformed = ConverterError(f"{path} (header): the entry of {name} is malformed; restore the file from its source")
    if not isinstance(entry, dict):
        raise malformed
    code, shape, region = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    numbers = [*shape, *region] if isinstance(shape, list) and isinstance(region, list) else [None]
    whole = len(numbers) <= 10 and all(type(number) is int and number >= 0 for number in numbers)
    if not isinstance(code, str) or not whole:
        raise malformed
    dtype = _CODES.get(code)
    itemsize = dtype.itemsize if dtype else _OTHER_SIZES.get(code)
    if len(region) != 2 or (itemsize and region[1] - region[0] != math.prod(shape) * itemsize):
        raise malformed
    return StoredTensor(name, path, start + region[0], tuple(shape), dtype, code), (region[0], region[1])


def safetensors_header(tensors: list[tuple[str, tuple[int, ...], object]], metadata: dict[str, str]) -> bytes:
    """The bytes before the data of tensors (name, shape, dtype), padded so that the data start at a multiple of 8."""
    header: dict = {"__metadata__": metadata}
    offset = 0
    for name, shape, dtype in tensors:
        stop = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
