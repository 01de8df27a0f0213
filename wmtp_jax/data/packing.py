"""Which documents share a row."""

import dataclasses

import numpy as np

# Rows that are filled side by side: more waste less space and cost more time.
_OPEN_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Rows:
    """Documents grouped into rows.

    Attributes:
        documents: int64 [number of documents], row after row.
        offsets: int64 [number of rows + 1]; row r holds documents[offsets[r]:offsets[r + 1]].
    """

    documents: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """The documents of one row."""
        return self.documents[self.offsets[row] : self.offsets[row + 1]]


def one_per_row(n: int) -> Rows:
    """Rows of a single document each.

    Args:
        n: Number of documents.

    Returns:
        Row i holds document i.
    """
    return Rows(documents=np.arange(n), offsets=np.arange(n + 1))


def first_fit(lengths: np.ndarray, order: np.ndarray, capacity: int) -> Rows:
    """Packs whole documents into rows, each into the first open row with room for it.

    A bounded number of rows is open at once; the fullest is closed to open another, so time grows with the number
    of documents only.

    Args:
        lengths: [n], tokens per document, each at most `capacity`.
        order: [n], the order in which documents are taken.
        capacity: Tokens per row.

    Returns:
        Rows that hold every document exactly once.
    """
    closed: list[list[int]] = []
    room = np.full(_OPEN_ROWS, capacity, np.int64)
    open_rows: list[list[int]] = [[] for _ in range(_OPEN_ROWS)]
    for document in order.tolist():
        length = int(lengths[document])
        fits = room >= length
        row = int(np.argmax(fits)) if fits.any() else -1
        if row < 0:
            row = int(np.argmin(room))
            closed.append(open_rows[row])
            open_rows[row], room[row] = [], capacity
        open_rows[row].append(document)
        room[row] -= length
    rows = closed + [row for row in open_rows if row]
    return Rows(
        documents=np.array([document for row in rows for document in row], np.int64),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)]),
    )
