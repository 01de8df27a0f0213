"""Rows of documents to the fixed-shape arrays of a batch."""

from collections.abc import Sequence

import numpy as np

from wmtp_jax.data.examples import UNKNOWN, Examples


def lay_out(examples: Examples, rows: Sequence[np.ndarray], row_length: int) -> dict[str, np.ndarray]:
    """Lays documents side by side into padded rows.

    Args:
        examples: The data set.
        rows: B arrays of example numbers, in the order in which they stand in the row; an empty one is an empty row.
        row_length: S, at least the sum of the lengths of any row's examples.

    Returns:
        tokens int32 [B, S] (0 where padded); segment_ids int32 [B, S] (0 = padding, 1, 2, .. = the row's documents);
        target_mask bool [B, S]; is_correct int8 [B] (1, 0, or -1: unknown, an empty row, or several documents);
        rows int32 [B] (the example's number, or -1: an empty row, or several documents); and for each of
        `examples.token_scores` a float32 [B, S] of its name (0 where padded); where examples have rewards, reward
        float32 [B] (0 where rows is -1).
    """
    shape = (len(rows), row_length)
    columns = {"tokens": examples.tokens, **examples.token_scores}
    per_token = {name: np.zeros(shape, column.dtype) for name, column in columns.items()}
    segment_ids_BxS = np.zeros(shape, np.int32)
    target_mask_BxS = np.zeros(shape, bool)
    is_correct_B = np.full(len(rows), UNKNOWN, np.int8)
    rows_B = np.full(len(rows), -1, np.int32)
    for b, documents in enumerate(rows):
        end = 0
        for segment, document in enumerate(documents, start=1):
            first, last = examples.offsets[document], examples.offsets[document + 1]
            begin, end = end, end + int(last - first)
            for name, column in columns.items():
                per_token[name][b, begin:end] = column[first:last]
            segment_ids_BxS[b, begin:end] = segment
            target_mask_BxS[b, begin + examples.prompt_lengths[document] : end] = True
        if len(documents) == 1:
            is_correct_B[b] = examples.is_correct[documents[0]]
            rows_B[b] = documents[0]
    per_row = {}
    if examples.rewards is not None:
        per_row["reward"] = np.where(rows_B < 0, 0, examples.rewards[rows_B]).astype(np.float32)
    return {
        **per_token,
        **per_row,
        "segment_ids": segment_ids_BxS,
        "target_mask": target_mask_BxS,
        "is_correct": is_correct_B,
        "rows": rows_B,
    }
