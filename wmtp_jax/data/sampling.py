"""Which solutions make up a batch: labels in a set ratio, pairs of one problem, some difficulties more often."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.build_store import UNKNOWN
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.large import rows_where
from wmtp_jax.data.pairs import length_balanced_pairs, no_pairs, random_pairs
from wmtp_jax.data.plan import INCORRECT, PARTNERS, ROWS, Stream


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How training batches are put together; the default takes the data as they are.

    Attributes:
        correct_ratio: Share of each batch's rows that are labelled correct, rounded to whole rows (half to even). The
            scarcer label is repeated. 0 leaves the ratio to the data.
        pairs: Rows 2i and 2i + 1 of a batch are a correct and an incorrect solution of one problem, in this order.
        length_balanced: Only pairs as `length_balanced_pairs` chooses them; without it partners are drawn at random.
        difficulty_weights: (difficulty, weight) or a mapping: how often rows of that difficulty are drawn relative to
            the others; 1 where not named, 0 leaves them out.
    """

    correct_ratio: float = 0.0
    pairs: bool = False
    length_balanced: bool = False
    difficulty_weights: Mapping[str, float] | Iterable[tuple[str, float]] = ()

    def __post_init__(self):
        """Refuses what contradicts itself.

        Raises:
            DataError: A value is out of its range, or two of them exclude each other.
        """
        if not 0 <= self.correct_ratio <= 1:
            raise DataError(
                f"correct_ratio is {self.correct_ratio}; expected a share of the rows from 0 (as in the data) to 1."
            )
        if self.pairs and self.correct_ratio not in (0, 0.5):
            raise DataError(
                f"correct_ratio is {self.correct_ratio} but pairs are half correct; set it to 0.5 or drop pairs."
            )
        if self.length_balanced and not self.pairs:
            raise DataError(
                "length_balanced chooses among pairs but pairs is off; switch it on or drop length_balanced."
            )
        try:
            weights = tuple(
                sorted((str(name), float(weight)) for name, weight in dict(self.difficulty_weights).items())
            )
        except (TypeError, ValueError):
            raise DataError(
                f"difficulty_weights are {self.difficulty_weights!r}; expected pairs of a difficulty and a number, "
                "e.g. (('easy', 0.5), ('hard', 2.0))."
            ) from None
        for name, weight in weights:
            if not (0 <= weight and math.isfinite(weight)):
                raise DataError(f"the weight of difficulty '{name}' is {weight}; expected a finite number, 0 or more.")
        object.__setattr__(self, "difficulty_weights", weights)

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """The settings for JSON; None for the default."""
        if self == Sampling():
            return None
        return {**dataclasses.asdict(self), "difficulty_weights": dict(self.difficulty_weights)}


def require_labels(examples: Examples, path: str | Path = "the data") -> None:
    """Refuses data from which nothing can be learned about right and wrong.

    Args:
        examples: The data set.
        path: Where it comes from, for the message.

    Raises:
        DataError: An example has no label, or all have the same.
    """
    unlabelled = np.flatnonzero(examples.is_correct == UNKNOWN)
    if len(unlabelled):
        raise DataError(
            f"{path}: {len(unlabelled)} of {len(examples)} examples have no label (is_correct null), the first is "
            f"'{examples.task_ids[unlabelled[0]]}'; expected true or false in each, so label or remove them."
        )
    n_correct = int(np.sum(examples.is_correct == 1))
    if n_correct in (0, len(examples)):
        missing = "correct" if n_correct == 0 else "incorrect"
        raise DataError(
            f"{path}: none of the {len(examples)} examples is labelled {missing}; expected both labels, so add "
            f"{missing} solutions or set policy_samples to 'all' if that left them out."
        )


def sampling_streams(examples: Examples, sampling: Sampling, *, batch_size: int, seed: int) -> list[Stream]:
    """What the batches are drawn from.

    Args:
        examples: The data set.
        sampling: Not the default.
        batch_size: Rows per batch.
        seed: The run's seed.

    Returns:
        One stream of rows, one of pairs, or one per label; together `batch_size` rows.

    Raises:
        DataError: The data do not have what is asked for.
    """
    weights = _difficulty_weights(examples, sampling)
    rows = rows_where((weights > 0)[examples.difficulty])
    if sampling.pairs:
        return [_pair_stream(examples, sampling, weights, rows, batch_size, seed)]
    if not sampling.correct_ratio:
        return [_row_stream(examples, rows, weights, batch_size, "rows of a weight above 0")]
    n_correct = round(sampling.correct_ratio * batch_size)
    if n_correct == 0 or (n_correct == batch_size and sampling.correct_ratio < 1):
        raise DataError(
            f"correct_ratio is {sampling.correct_ratio}, which of batch_size {batch_size} is {n_correct} rows; "
            "expected at least one row of each label, so raise batch_size or set the ratio to 0 or 1."
        )
    if n_correct < batch_size:
        require_labels(examples)
    correct, incorrect = (rows[examples.is_correct[rows] == label] for label in (1, 0))
    streams = [_row_stream(examples, correct, weights, n_correct, "rows labelled correct")]
    if n_correct < batch_size:
        share = batch_size - n_correct
        streams.append(_row_stream(examples, incorrect, weights, share, "rows labelled incorrect", INCORRECT))
    return streams


def _difficulty_weights(examples: Examples, sampling: Sampling) -> np.ndarray:
    """float64, the weight of each of the data's difficulties."""
    weights = np.ones(len(examples.difficulty_names))
    for name, weight in sampling.difficulty_weights:
        if name not in examples.difficulty_names:
            known = ", ".join(map(repr, examples.difficulty_names))
            raise DataError(f"difficulty_weights name '{name}'; expected difficulties that the data have: {known}.")
        weights[examples.difficulty_names.index(name)] = weight
    return weights


def _row_stream(
    examples: Examples, rows: np.ndarray, weights: np.ndarray, share: int, what: str, number: int = ROWS
) -> Stream:
    if len(rows) < share:
        raise _too_few(len(rows), share, what)
    units = rows[:, None]
    return Stream(
        lambda epoch: units, n=len(rows), share=share, number=number, weights=_uneven(examples, weights, rows)
    )


def _pair_stream(
    examples: Examples, sampling: Sampling, weights: np.ndarray, rows: np.ndarray, batch_size: int, seed: int
) -> Stream:
    require_labels(examples)
    if sampling.length_balanced:
        # Balanced within each weight, so that drawing some pairs more often leaves the balance as it is.
        groups = np.unique(weights, return_inverse=True)[1].astype(np.int16)[examples.difficulty]
        fixed = length_balanced_pairs(examples, rows=rows, groups=groups)
        units = lambda epoch: fixed
    else:
        # The pairs of the first epoch are counted below and asked for again at once.
        units = functools.lru_cache(maxsize=1)(
            lambda epoch: random_pairs(examples, rows, seed=seed, stream=PARTNERS, epoch=epoch)
        )
    pairs = units(0)
    if not len(pairs):
        raise no_pairs()
    share = batch_size // 2
    if len(pairs) < share:
        raise _too_few(len(pairs), share, "pairs of a correct and an incorrect solution")
    return Stream(units, n=len(pairs), share=share, weights=_uneven(examples, weights, pairs[:, 0]))


def _uneven(examples: Examples, weights: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """float64, the weight of each row; None where all are the same."""
    if np.all(weights == weights[0]):
        return None
    of_row = weights[examples.difficulty[rows]]
    return None if np.all(of_row == of_row[0]) else of_row


def _too_few(n: int, share: int, what: str) -> DataError:
    return DataError(
        f"the data have only {n} {what} but every batch takes {share}; lower batch_size, change sampling or bring more."
    )
