"""Which solutions make up a batch: labels in a set ratio, pairs of one problem, some difficulties more often."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.order import Stream
from wmtp_jax.data.pairs import length_balanced_pairs, random_pairs
from wmtp_jax.data.records import UNKNOWN
from wmtp_jax.errors import shown


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How training batches are put together; the default takes the data as they are.

    Attributes:
        correct_ratio: Share of each batch's rows that are labelled correct, rounded to whole rows (half to even). The
            scarcer label is repeated. 0 leaves the ratio to the data.
        pairs: Rows 2i and 2i + 1 of a batch are a correct and an incorrect solution of one problem, in this order.
        length_balanced: Only pairs as `length_balanced_pairs` chooses them; without it partners are drawn at random.
        difficulty_weights: (difficulty, weight) or a mapping: how often rows of that difficulty are drawn relative to
            the others, finite and 0 or more; 1 where not named, 0 leaves them out.
    """

    correct_ratio: float = 0.0
    pairs: bool = False
    length_balanced: bool = False
    difficulty_weights: Mapping[str, float] | Iterable[tuple[str, float]] = ()

    def __post_init__(self):
        """Refuses what is out of range or contradicts itself, with a DataError."""
        if not 0 <= self.correct_ratio <= 1:
            raise DataError(f"correct_ratio is {self.correct_ratio}; expected a share of the rows from 0 to 1.")
        if self.pairs and self.correct_ratio not in (0, 0.5):
            raise DataError(
                f"correct_ratio is {self.correct_ratio} but pairs are half correct; set it to 0.5 or drop pairs."
            )
        if self.length_balanced and not self.pairs:
            raise DataError("length_balanced chooses among pairs, but pairs is off; switch it on.")
        weights = sorted((str(name), float(weight)) for name, weight in dict(self.difficulty_weights).items())
        if not all(0 <= weight < math.inf for _, weight in weights):
            raise DataError(f"difficulty_weights are {shown(weights)}; expected finite numbers of 0 or more.")
        object.__setattr__(self, "difficulty_weights", tuple(weights))

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """The settings for JSON; None for the default."""
        if self == Sampling():
            return None
        return {**dataclasses.asdict(self), "difficulty_weights": dict(self.difficulty_weights)}


def require_labels(examples: Examples, path: str | Path = "the data") -> None:
    """Refuses data from which nothing can be learned about correct and incorrect; `path` is named in the message.

    Raises:
        DataError: An example has no label, or all have the same.
    """
    unlabelled = np.flatnonzero(examples.is_correct == UNKNOWN)
    if len(unlabelled):
        raise DataError(
            f"{path}: {len(unlabelled)} of {len(examples)} examples have no label (is_correct null), the first is "
            f"{shown(examples.task_id(unlabelled[0]))}; expected true or false in each, so label or remove them."
        )
    n_correct = int(np.sum(examples.is_correct == 1))
    if n_correct in (0, len(examples)):
        missing = "correct" if n_correct == 0 else "incorrect"
        raise DataError(
            f"{path}: none of the {len(examples)} examples is labelled {missing}; expected both labels, so add "
            f"{missing} solutions or set policy_samples to 'all' if that left them out."
        )


def sampling_streams(examples: Examples, sampling: Sampling, *, batch_size: int, seed: int) -> list[Stream]:
    """What the batches are drawn from: one stream of rows, one of pairs, or one per label.

    Raises:
        DataError: The data do not have what is asked for.
    """
    of_difficulty = _difficulty_weights(examples, sampling)
    rows = np.flatnonzero((of_difficulty > 0)[examples.difficulty]).astype(np.int32)

    def stream(items: np.ndarray, share: int, what: str, rounds: np.ndarray | None = None) -> Stream:
        n = len(items) if rounds is None else int(np.sum(rounds == 0))
        if n < share:
            raise DataError(
                f"the data have only {n} {what} but every batch takes {share}; lower batch_size, change sampling or "
                "bring more."
            )
        difficulty = examples.difficulty[items[:, 0]]
        equal = np.all(of_difficulty[np.unique(difficulty)] == of_difficulty[difficulty[0]])
        return Stream(items, share, None if equal else of_difficulty[difficulty], rounds)

    if sampling.pairs:
        require_labels(examples)
        rounds = None
        if sampling.length_balanced:
            # Balanced within each weight, so that drawing some pairs more often leaves the balance as it is.
            groups = np.unique(of_difficulty, return_inverse=True)[1].astype(np.int32)[examples.difficulty]
            pairs = length_balanced_pairs(examples, rows=rows, groups=groups)
        else:
            pairs, rounds = random_pairs(examples, rows, seed=seed)
        return [stream(pairs, batch_size // 2, "pairs of a correct and an incorrect solution", rounds)]
    if not sampling.correct_ratio:
        return [stream(rows[:, None], batch_size, "rows of a weight above 0")]
    n_correct = round(sampling.correct_ratio * batch_size)
    if n_correct == 0 or (n_correct == batch_size and sampling.correct_ratio < 1):
        raise DataError(
            f"correct_ratio is {sampling.correct_ratio}, which of batch_size {batch_size} is {n_correct} rows; "
            "expected at least one row of each label, so raise batch_size or set the ratio to 0 or 1."
        )
    correct, incorrect = (rows[examples.is_correct[rows] == label][:, None] for label in (1, 0))
    if n_correct == batch_size:
        return [stream(correct, n_correct, "rows labelled correct")]
    require_labels(examples)
    return [
        stream(correct, n_correct, "rows labelled correct"),
        stream(incorrect, batch_size - n_correct, "rows labelled incorrect"),
    ]


def _difficulty_weights(examples: Examples, sampling: Sampling) -> np.ndarray:
    """float64, the weight of each of the data's difficulties."""
    weights = np.ones(len(examples.difficulty_names))
    for name, weight in sampling.difficulty_weights:
        if name not in examples.difficulty_names:
            known = shown(examples.difficulty_names, 300)
            raise DataError(
                f"difficulty_weights name {shown(name)}; expected difficulties that the data have: {known}."
            )
        weights[examples.difficulty_names.index(name)] = weight
    return weights
