"""Rows of documents to the fixed-shape arrays of a batch."""

from collections.abc import Sequence

import numpy as np

from wmtp_jax.data.build_store import UNKNOWN
from wmtp_jax.data.examples import Examples


def collate(examples: Examples, rows: Sequence[Sequence[int]], row_length: int) -> dict[str, np.ndarray]:
    """Puts documents one after the other into padded rows.

    Args:
        examples: The data set.
        rows: B sequences of example numbers, in their order in the row; an empty one is an empty row.
        row_length: S, at least the sum of the lengths of any row's examples.

    Returns:
        tokens int32 [B, S] (0 where padded); segment_ids int32 [B, S] (0 = padding, 1, 2, .. = the row's documents);
        target_mask bool [B, S]; is_correct int8 [B] (1, 0, or -1: unknown, an empty row, or several documents);
        rows int32 [B] (the example's number, or -1: an empty row, or several documents); for each of
        `examples.token_scores` a float32 [B, S] of its name (0 where padded); where records give weights, weights
        float32 [B, S], indexed by the target token (0 where the mask is False); where examples have rewards, reward
        float32 [B] (0 where rows is -1).
    """
    shape = (len(rows), row_length)
    batch = {
        "tokens": np.zeros(shape, np.int32),
        **{name: np.zeros(shape, np.float32) for name in examples.token_scores},
        **({"weights": np.zeros(shape, np.float32)} if examples.has_weights else {}),
        "segment_ids": np.zeros(shape, np.int32),
        "target_mask": np.zeros(shape, bool),
        "is_correct": np.full(len(rows), UNKNOWN, np.int8),
        "rows": np.full(len(rows), -1, np.int32),
    }
    for b, documents in enumerate(rows):
        end = 0
        for segment, document in enumerate(documents, start=1):
            tokens = examples.tokens(document)
            begin, end = end, end + len(tokens)
            batch["tokens"][b, begin:end] = tokens
            for name, scores in examples.token_scores.items():
                batch[name][b, begin:end] = scores[examples.offsets[document] : examples.offsets[document + 1]]
            if examples.has_weights:
                batch["weights"][b, begin:end] = examples.weights(document)
            batch["segment_ids"][b, begin:end] = segment
            batch["target_mask"][b, begin + examples.store.prompt_length(examples.rows[document]) : end] = True
        if len(documents) == 1:
            batch["is_correct"][b] = examples.is_correct[documents[0]]
            batch["rows"][b] = documents[0]
    if examples.rewards is not None:
        batch["reward"] = np.where(batch["rows"] < 0, 0, examples.rewards[batch["rows"]]).astype(np.float32)
    return batch
