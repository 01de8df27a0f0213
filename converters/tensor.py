"""A tensor that lies in a file as one run of bytes, and the element types that all formats share."""

import dataclasses
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from converters.errors import ConverterError
from wmtp_jax.errors import shown
from wmtp_jax.files import sha256_of

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_LONGEST_NAME = 256
_PIECE = 2**22
_EXPONENT_16 = {DTYPES["float16"]: 0x7C00, DTYPES["bfloat16"]: 0x7F80}


def parse_dtype(dtype) -> np.dtype | None:
    """The element type of a name, numpy or JAX dtype; None stays None ("as in the source").

    Raises:
        ConverterError: not one of float32, float16, bfloat16.
    """
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
    """Little-endian elements in row-major order, `offset` bytes into the file.

    Attributes:
        dtype: numpy's, or None where the file's element type is none of ours (`type_name` says which).
    """

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
        """The values, or one layer of a tensor that is stacked on its leading axis.

        Reads into fresh memory (never maps the file: resident memory stays at one tensor).
        """
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
    """Whether two tensors of one size hold the same bytes; two views of one place do without being read."""
    a.check_dtype()
    if (a.path, a.offset) == (b.path, b.offset):
        return True
    step = 16 * 2**20
    with open(a.path, "rb") as file_a, open(b.path, "rb") as file_b:
        file_a.seek(a.offset)
        file_b.seek(b.offset)
        for start in range(0, a.nbytes, step):
            count = min(step, a.nbytes - start)
            if file_a.read(count) != file_b.read(count):
                return False
    return True


def as_bits(values: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers: numpy moves bfloat16 one element at a time, integers in bulk."""
    return values.view(np.uint16 if values.dtype.itemsize == 2 else np.uint32)


def is_finite(values: np.ndarray) -> bool:
    """Whether every element of a contiguous array is a number, tested piece by piece to keep temporaries small."""
    flat = values.reshape(-1)
    return all(_piece_is_finite(flat[start : start + _PIECE]) for start in range(0, flat.size, _PIECE))


def _piece_is_finite(flat: np.ndarray) -> bool:
    if flat.dtype.itemsize == 2:  # The exponent bits are tested faster than the numbers.
        exponent = _EXPONENT_16[flat.dtype]
        return not ((as_bits(flat) & exponent) == exponent).any()
    return bool(np.isfinite(flat).all())


def check_finite(values: np.ndarray, tensor: str, before_cast: np.ndarray | None = None) -> None:
    """Refuses NaN and infinity.

    Args:
        values: to be tested.
        tensor: its name, for the message.
        before_cast: the same values in the source's dtype: says whether the cast is to blame.

    Raises:
        ConverterError: names the tensor.
    """
    if is_finite(values):
        return
    if before_cast is not None and is_finite(before_cast):
        raise ConverterError(
            f"tensor {tensor} has values beyond the range of {values.dtype}; convert to bfloat16 or float32 instead"
        )
    raise ConverterError(f"tensor {tensor} holds NaN or infinity; weights must be finite, so take another checkpoint")
