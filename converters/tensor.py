"""A tensor that lies in a file as one run of bytes, and the safetensors format: a length, a JSON header, the bytes."""

import dataclasses
import json
import math
import struct
from pathlib import Path

import ml_dtypes
import numpy as np

from converters.errors import ConverterError
from wmtp_jax.errors import shown
from wmtp_jax.files import sha256_of
from wmtp_jax.jsonl import parse_object

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_LONGEST_NAME = 256
_PIECE = 2**22
_EXPONENT_16 = {DTYPES["float16"]: 0x7C00, DTYPES["bfloat16"]: 0x7F80}
_CODES = {"F32": DTYPES["float32"], "F16": DTYPES["float16"], "BF16": DTYPES["bfloat16"]}
_NAMES = {dtype: code for code, dtype in _CODES.items()}
# Element sizes of what we do not read, so that such a file is refused for its dtype and not as malformed.
_OTHER_SIZES = {"F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LARGEST_HEADER = 100 * 2**20


def parse_dtype(dtype) -> np.dtype | None:
    """The element type of a name, numpy or JAX dtype; None stays None ("as in the source")."""
    if dtype is None:
        return None
    try:
        found = DTYPES.get(dtype) if isinstance(dtype, str) else np.dtype(dtype)
    except TypeError:
        found = None
    if found not in DTYPES.values():
        raise ConverterError(f"dtype {shown(dtype)} is not supported; expected one of {', '.join(DTYPES)}")
    return found


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Little-endian elements in row-major order, `offset` bytes into the file; dtype None: none of ours."""

    name: str
    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype | None
    type_name: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def check_dtype(self) -> None:
        """Raises ConverterError when the elements are none of float32, float16, bfloat16."""
        if self.dtype is None:
            raise ConverterError(
                f"{self.path}: tensor {self.name} has the dtype {self.type_name}, which is not supported; "
                f"expected one of {', '.join(DTYPES)}"
            )

    def read(self, layer: int | None = None) -> np.ndarray:
        """The values, or those of one layer, in fresh memory: a mapped file would grow the resident memory."""
        shape, offset = self.shape, self.offset
        if layer is not None:
            shape = shape[1:]
            offset += layer * math.prod(shape) * self.dtype.itemsize
        values = np.empty(shape, self.dtype)
        rest = memoryview(values.reshape(-1).view(np.uint8))
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset)
            while rest:
                count = file.readinto(rest[: 64 * 2**20])
                if not count:
                    raise ConverterError(f"{self.path}: ends inside tensor {self.name}; restore it from its source")
                rest = rest[count:]
        return values

    def sha256(self) -> str:
        """Digest of the bytes in the file; of fewer bytes when the file ends early."""
        return sha256_of(self.path, self.offset, self.nbytes)


def check_tensor_name(path: Path, name: str) -> None:
    """Raises ConverterError for a name that no message could show: too long, or with control characters."""
    if len(name) > _LONGEST_NAME or not name.isascii() or not name.isprintable():
        raise ConverterError(
            f"{path}: holds a tensor named {shown(name)}; expected at most {_LONGEST_NAME} printable ASCII characters"
        )


def same_bytes(a: StoredTensor, b: StoredTensor) -> bool:
    """Whether two tensors are equal in shape, dtype and bytes; two views of one place are without being read."""
    a.check_dtype()
    if a.shape != b.shape or a.type_name != b.type_name:
        return False
    if (a.path, a.offset) == (b.path, b.offset):
        return True
    with open(a.path, "rb") as file_a, open(b.path, "rb") as file_b:
        file_a.seek(a.offset)
        file_b.seek(b.offset)
        sizes = [min(_PIECE, a.nbytes - start) for start in range(0, a.nbytes, _PIECE)]
        return all(file_a.read(size) == file_b.read(size) for size in sizes)


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


def as_bits(values: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers: numpy moves bfloat16 one element at a time, integers in bulk."""
    return values.view(np.uint16 if values.dtype.itemsize == 2 else np.uint32)


def is_finite(values: np.ndarray) -> bool:
    """Whether every element of a contiguous array is a number, tested piece by piece to keep temporaries small."""
    flat, exponent = values.reshape(-1), _EXPONENT_16.get(values.dtype)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        # Of 16 bits, the exponent's are tested faster than the numbers.
        if exponent and ((as_bits(piece) & exponent) == exponent).any():
            return False
        if not exponent and not np.isfinite(piece).all():
            return False
    return True


def check_finite(values: np.ndarray, tensor: str) -> None:
    """Raises ConverterError, which names the tensor, where there is NaN or infinity."""
    if not is_finite(values):
        raise ConverterError(f"tensor {tensor} holds NaN or infinity; expected finite weights, take another checkpoint")


def cast(values: np.ndarray, dtype: np.dtype, tensor: str) -> np.ndarray:
    """Finite values in another dtype; raises ConverterError, which names the tensor, where that has no such number."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        converted = values.astype(dtype)
    if not is_finite(converted):
        raise ConverterError(
            f"tensor {tensor} has values beyond the range of {dtype}; convert to bfloat16 or float32 instead"
        )
    return converted
