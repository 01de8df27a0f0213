"""A tensor that lies in a file as one run of bytes, and the element types that all formats share."""

import dataclasses
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from converters.errors import ConverterError
from wmtp_jax.errors import shown
from wmtp_jax.files import sha256_of

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_LONGEST_NAME = 256
_PIECE = 2**22
_EXPONENT_16 = {DTYPES["float16"]: 0x7C00, DTYPES["bfloat16"]: 0x7F80}


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
