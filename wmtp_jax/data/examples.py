"""A data set in memory: all tokens in one flat array, one column per label."""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np

from wmtp_jax.data.encoding import Example, encode_record
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import Record, read_records
from wmtp_jax.data.tokenizer import Tokenizer

POLICY_SAMPLES = ("correct", "all")
OVER_LENGTH = ("drop", "error")
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Counts:
    """What became of the records of a file.

    Attributes:
        read: Records in the file.
        kept: Records that became examples.
        over_length: Left out because they have more tokens than allowed.
        incorrect: Left out because they are labelled incorrect.
        not_clean: Left out because they are not marked clean.
    """

    read: int
    kept: int
    over_length: int
    incorrect: int
    not_clean: int

    def __str__(self) -> str:
        """One line for a log."""
        return (
            f"{self.kept} of {self.read} records kept (left out: {self.over_length} over-long, "
            f"{self.incorrect} incorrect, {self.not_clean} not clean)"
        )


@dataclasses.dataclass(frozen=True)
class Examples:
    """A tokenized data set, by column.

    Attributes:
        tokens: int32 [sum of lengths], the examples one after the other.
        offsets: int64 [n + 1]; example i is tokens[offsets[i]:offsets[i + 1]].
        prompt_lengths: int32 [n], BOS included: the number of leading tokens that are no targets.
        is_correct: int8 [n]: 1, 0, or -1 for unknown.
        task_ids: n task ids.
        counts: What was left out on the way.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    prompt_lengths: np.ndarray
    is_correct: np.ndarray
    task_ids: tuple[str, ...]
    counts: Counts

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.task_ids)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [n], tokens per example."""
        return np.diff(self.offsets)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of everything that a batch is made of."""
        state = hashlib.sha256()
        for column in (self.tokens, self.offsets, self.prompt_lengths, self.is_correct):
            state.update(f"{column.dtype.str}{column.shape}".encode())
            state.update(np.ascontiguousarray(column))
        state.update("\0".join(self.task_ids).encode())
        return state.hexdigest()


def from_examples(examples: list[Example], counts: Counts | None = None) -> Examples:
    """Lays single examples out by column.

    Args:
        examples: The examples; a target mask must be False on the prompt and True on all that follows.
        counts: What was left out before; None when nothing was.

    Returns:
        The columns.
    """
    n = len(examples)
    lengths = np.array([len(example.tokens) for example in examples], np.int64)
    return Examples(
        tokens=np.concatenate([example.tokens for example in examples] or [np.zeros(0, np.int32)]).astype(np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        prompt_lengths=np.array([np.sum(~example.target_mask) for example in examples], np.int32),
        is_correct=np.array([_label(example.is_correct) for example in examples], np.int8),
        task_ids=tuple(example.task_id for example in examples),
        counts=counts or Counts(read=n, kept=n, over_length=0, incorrect=0, not_clean=0),
    )


def load_examples(
    path: str | Path,
    tokenizer: Tokenizer,
    *,
    template: str,
    max_length: int,
    over_length: str = "drop",
    policy_samples: str = "correct",
    clean_only: bool = False,
) -> Examples:
    """Reads, checks and tokenizes a file of records.

    Args:
        path: A .jsonl or .jsonl.gz file of records.
        tokenizer: The model's tokenizer.
        template: Name of the prompt template.
        max_length: Largest number of tokens per example, BOS and EOS included.
        over_length: What happens to a longer record: "drop" leaves it out and counts it, "error" refuses the file.
        policy_samples: "correct" leaves out records labelled incorrect (unlabelled ones are imitated); "all" keeps
            both. A critic learns from both: its objectives load "all" and mask the imitation by `is_correct`.
        clean_only: Keeps only records whose metadata.clean is true (the data of a reference model).

    Returns:
        The examples, in the order of the file.

    Raises:
        DataError: A record or an option is wrong, or no record is left.
    """
    _check_choice("over_length", over_length, OVER_LENGTH)
    _check_choice("policy_samples", policy_samples, POLICY_SAMPLES)
    examples = []
    read = too_long = incorrect = not_clean = 0
    for record in read_records(path):
        read += 1
        if clean_only and not _is_clean(record, f"{path}:{read}"):
            not_clean += 1
        elif policy_samples == "correct" and record.is_correct is False:
            incorrect += 1
        elif (example := encode_record(record, tokenizer, template, max_length)) is not None:
            examples.append(example)
        elif over_length == "error":
            raise DataError(
                f"{path}:{read}: the record '{record.task_id}' has more than max_length {max_length} tokens; "
                "raise max_length or set over_length to 'drop'."
            )
        else:
            too_long += 1
    counts = Counts(read=read, kept=len(examples), over_length=too_long, incorrect=incorrect, not_clean=not_clean)
    if not examples:
        raise DataError(
            f"{path}: nothing to train on, {counts}; change max_length {max_length}, the filters or the file."
        )
    return from_examples(examples, counts)


def _label(is_correct: bool | None) -> int:
    return UNKNOWN if is_correct is None else int(is_correct)


def _is_clean(record: Record, where: str) -> bool:
    clean = record.metadata.get("clean")
    if not isinstance(clean, bool):
        raise DataError(
            f"{where}: metadata.clean is not true or false, but clean_only was asked for; add it or drop the option."
        )
    return clean


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}.")
