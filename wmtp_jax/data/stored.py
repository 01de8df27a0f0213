"""Examples that stay in their file: columns tell which they are, and a record is read and encoded when it is used."""

import hashlib
from collections.abc import Sequence

import numpy as np

from wmtp_jax.data.encoding import encode_record
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.index import Index
from wmtp_jax.data.large import rows_where
from wmtp_jax.data.records import Record
from wmtp_jax.data.tokenizer import Tokenizer


class StoredTokens:
    """Stands where an array of all tokens would: slicing an example out of it reads and encodes the record.

    Attributes:
        dtype: int32.
        shape: (sum of lengths,).
    """

    dtype = np.dtype(np.int32)

    def __init__(self, index: Index, rows: np.ndarray, offsets: np.ndarray, tokenizer: Tokenizer, template: str):
        """Takes the examples' rows in the file (int32 [n]) and their offsets among the tokens (int64 [n + 1])."""
        self._index, self._rows, self._offsets = index, rows, offsets
        self._tokenizer, self._template = tokenizer, template
        self.shape = (int(offsets[-1]),)

    def __len__(self) -> int:
        """The number of tokens."""
        return self.shape[0]

    def __getitem__(self, span: slice) -> np.ndarray:
        """The tokens of one example.

        Args:
            span: From its offset to that of the next.

        Returns:
            int32 [length].

        Raises:
            DataError: The record is not the one whose tokens were counted.
        """
        example = int(np.searchsorted(self._offsets, span.start))
        if self._offsets[example] != span.start or self._offsets[example + 1] != span.stop:
            raise IndexError(f"tokens {span.start} to {span.stop} are not one example")
        length, row = int(span.stop - span.start), int(self._rows[example])
        encoded = encode_record(self._index.record(row), self._tokenizer, self._template, length)
        if encoded is None or len(encoded.tokens) != length:
            raise DataError(
                f"{self._index.path}:{row + 1}: the record does not have the {length} tokens that were counted; delete "
                f"{self._index.path}.lengths to have them counted again."
            )
        return encoded.tokens

    def record(self, example: int) -> Record:
        """The record of one example."""
        return self._index.record(int(self._rows[example]))

    @property
    def digest(self) -> bytes:
        """SHA-256 of what the tokens and task ids depend on: file, rows, tokenizer, template."""
        text = f"{self._index.digest} {self._tokenizer.digest} {self._template}"
        state = hashlib.sha256(text.encode())
        state.update(self._rows)
        return state.digest()


class StoredTaskIds(Sequence[str]):
    """The examples' task ids, each read from the file when asked for."""

    def __init__(self, index: Index, rows: np.ndarray):
        """Takes the examples' rows in the file, int32 [n]."""
        self._index, self._rows = index, rows

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._rows)

    def __getitem__(self, example: int) -> str:
        """The task id of one example."""
        return self._index.record(int(self._rows[example])).task_id


def keep(
    wanted: np.ndarray, fitting: np.ndarray, problems: np.ndarray, labels: np.ndarray, cap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the first solutions of each problem and label.

    Args:
        wanted: bool [n], the records that other filters leave.
        fitting: bool [n], those that are not too long.
        problems: int32 [n].
        labels: int8 [n]: 1, 0, or -1.
        cap: Largest number per problem and label; 0 keeps all.

    Returns:
        int32 [kept] numbers of the records that are wanted, fitting and among the first `cap`; bool [n], the wanted
        ones that come when their problem has enough.
    """
    over_cap = np.zeros(len(wanted), bool)
    if cap:
        rows = np.flatnonzero(wanted)
        key = problems[rows].astype(np.int64) * 3 + labels[rows] + 1
        rows = rows[np.argsort(key, kind="stable")]
        key = np.sort(key, kind="stable")
        taken = np.cumsum(fitting[rows]) - fitting[rows]
        over_cap[rows] = taken - taken[np.searchsorted(key, key)] >= cap
    return rows_where(wanted & fitting & ~over_cap), over_cap
