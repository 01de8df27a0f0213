"""A data set by column: the tokens in memory, or encoded where they are used; the labels in memory."""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wmtp_jax.data.encoding import Example, encode_record
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.index import open_index
from wmtp_jax.data.large import count, order_of_appearance
from wmtp_jax.data.lengths import token_lengths
from wmtp_jax.data.records import Record, read_records, task_of
from wmtp_jax.data.stored import StoredTaskIds, StoredTokens, keep
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
        over_cap: Left out because their problem has enough solutions of that label.
    """

    read: int
    kept: int
    over_length: int
    incorrect: int
    not_clean: int
    over_cap: int = 0

    def __str__(self) -> str:
        """One line for a log."""
        capped = f", {self.over_cap} over the cap per problem" if self.over_cap else ""
        return (
            f"{self.kept} of {self.read} records kept (left out: {self.over_length} over-long, "
            f"{self.incorrect} incorrect, {self.not_clean} not clean{capped})"
        )


@dataclasses.dataclass(frozen=True)
class Examples:
    """A tokenized data set, by column.

    Attributes:
        tokens: int32 [sum of lengths], the examples one after the other; an array, or `StoredTokens`, which reads and
            encodes an example when it is sliced out.
        offsets: int64 [n + 1]; example i is tokens[offsets[i]:offsets[i + 1]].
        prompt_lengths: int32 [n], BOS included: the number of leading tokens that are no targets.
        is_correct: int8 [n]: 1, 0, or -1 for unknown.
        task_ids: n task ids.
        problems: int32 [n], the number of each example's problem (`task_of` its id).
        difficulty: int32 [n], each example's position in `difficulty_names`.
        difficulty_names: The difficulties that occur, sorted; "" stands for records that name none.
        counts: What was left out on the way.
        token_scores: Name -> float32 [sum of lengths]: further columns per token, which come out of batches as
            [B, S] arrays of that name. Computed from the data, hence no part of the digest.
        rewards: float32 [n], what stands in for `is_correct` as the reward, in [0, 1]; None when nothing does. Comes
            out of batches as `reward` [B]; no part of the digest either.
    """

    tokens: np.ndarray | StoredTokens
    offsets: np.ndarray
    prompt_lengths: np.ndarray
    is_correct: np.ndarray
    task_ids: Sequence[str]
    problems: np.ndarray
    difficulty: np.ndarray
    difficulty_names: tuple[str, ...]
    counts: Counts
    token_scores: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rewards: np.ndarray | None = None

    def __post_init__(self):
        """Refuses scores that belong to other tokens."""
        for name, scores in self.token_scores.items():
            if scores.shape != self.tokens.shape or scores.dtype != np.float32:
                raise DataError(
                    f"token scores '{name}' are {scores.dtype} of shape {scores.shape}; expected float32 of shape "
                    f"{self.tokens.shape}, one per token, so compute them again for these examples."
                )

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.task_ids)

    @property
    def lengths(self) -> np.ndarray:
        """int32 [n], tokens per example."""
        return np.subtract(self.offsets[1:], self.offsets[:-1], dtype=np.int32, casting="unsafe")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the records' part of a batch: all but what was computed from it."""
        state = hashlib.sha256()
        for column in (self.tokens, self.offsets, self.prompt_lengths, self.is_correct, self.difficulty):
            state.update(f"{column.dtype.str}{column.shape}".encode())
            state.update(column.digest if isinstance(column, StoredTokens) else np.ascontiguousarray(column))
        # The digest of stored tokens is that of their records, ids included.
        task_ids = () if isinstance(self.task_ids, StoredTaskIds) else self.task_ids
        for names in (task_ids, self.difficulty_names):
            state.update("\0".join((str(len(names)), *names)).encode())
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
    difficulty_names = tuple(sorted({example.difficulty for example in examples}))
    code = {name: i for i, name in enumerate(difficulty_names)}
    lengths = np.array([len(example.tokens) for example in examples], np.int64)
    numbers: dict[str, int] = {}
    problems = [numbers.setdefault(task_of(example.task_id), len(numbers)) for example in examples]
    return Examples(
        tokens=np.concatenate([example.tokens for example in examples] or [np.zeros(0, np.int32)]).astype(np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        prompt_lengths=np.array([np.sum(~example.target_mask) for example in examples], np.int32),
        is_correct=np.array([_label(example.is_correct) for example in examples], np.int8),
        task_ids=tuple(example.task_id for example in examples),
        problems=np.array(problems, np.int32),
        difficulty=np.array([code[example.difficulty] for example in examples], np.int32),
        difficulty_names=difficulty_names,
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
    max_per_problem: int = 0,
) -> Examples:
    """Reads, checks and tokenizes a file of records.

    A .jsonl.gz file is held in memory. A .jsonl file stays where it is: its index and token counts are taken from
    beside it or made once (see `index` and `lengths`), and its records are read and encoded as batches need them. Both
    give the same batches.

    Args:
        path: A .jsonl or .jsonl.gz file of records.
        tokenizer: The model's tokenizer.
        template: Name of the prompt template.
        max_length: Largest number of tokens per example, BOS and EOS included.
        over_length: What happens to a longer record: "drop" leaves it out and counts it, "error" refuses the file.
        policy_samples: "correct" leaves out records labelled incorrect (unlabelled ones are imitated); "all" keeps
            both. A critic learns from both: its objectives load "all" and mask the imitation by `is_correct`.
        clean_only: Keeps only records whose metadata.clean is true (the data of a reference model).
        max_per_problem: Largest number of correct, of incorrect and of unlabelled solutions kept per problem; 0 keeps
            all. The first of the file that pass the other filters are kept, so no seed decides what the data are.

    Returns:
        The examples, in the order of the file.

    Raises:
        DataError: A record or an option is wrong, or no record is left.
    """
    _check_choice("over_length", over_length, OVER_LENGTH)
    _check_choice("policy_samples", policy_samples, POLICY_SAMPLES)
    if max_per_problem < 0:
        raise DataError(f"max_per_problem is {max_per_problem}; expected 0 (no cap) or more.")
    if Path(path).name.endswith(".jsonl"):
        return _stored_examples(
            path,
            tokenizer,
            template=template,
            max_length=max_length,
            over_length=over_length,
            policy_samples=policy_samples,
            clean_only=clean_only,
            max_per_problem=max_per_problem,
        )
    examples = []
    kept_of: collections.Counter[tuple[str, bool | None]] = collections.Counter()
    read = too_long = incorrect = not_clean = over_cap = 0
    for record in read_records(path):
        read += 1
        problem = task_of(record.task_id), record.is_correct
        if clean_only and not _is_clean(record, f"{path}:{read}"):
            not_clean += 1
        elif policy_samples == "correct" and record.is_correct is False:
            incorrect += 1
        elif max_per_problem and kept_of[problem] == max_per_problem:
            over_cap += 1
        elif (example := encode_record(record, tokenizer, template, max_length)) is not None:
            examples.append(example)
            kept_of[problem] += 1
        elif over_length == "error":
            raise _too_long(f"{path}:{read}", record.task_id, max_length)
        else:
            too_long += 1
    counts = Counts(
        read=read,
        kept=len(examples),
        over_length=too_long,
        incorrect=incorrect,
        not_clean=not_clean,
        over_cap=over_cap,
    )
    if not examples:
        raise _nothing_left(path, counts, max_length)
    return from_examples(examples, counts)


def _stored_examples(
    path: str | Path,
    tokenizer: Tokenizer,
    *,
    template: str,
    max_length: int,
    over_length: str,
    policy_samples: str,
    clean_only: bool,
    max_per_problem: int,
) -> Examples:
    index = open_index(path)
    prompts, lengths = token_lengths(index, tokenizer, template)
    lengths += prompts
    not_clean = np.zeros(len(index), bool)
    if clean_only:
        if len(unsaid := np.flatnonzero(index.clean == UNKNOWN)):
            raise _not_said(f"{path}:{unsaid[0] + 1}")
        not_clean = index.clean != 1
    incorrect = ~not_clean & ((index.is_correct == 0) if policy_samples == "correct" else False)
    fitting, labels = lengths <= max_length, index.is_correct
    rows, over_cap = keep(~not_clean & ~incorrect, fitting, index.problem, labels, max_per_problem)
    too_long = ~(not_clean | incorrect | over_cap | fitting)
    if over_length == "error" and too_long.any():
        row = int(np.argmax(too_long))
        raise _too_long(f"{path}:{row + 1}", index.record(row).task_id, max_length)
    counts = Counts(len(index), len(rows), *(int(np.sum(out)) for out in (too_long, incorrect, not_clean, over_cap)))
    if not len(rows):
        raise _nothing_left(path, counts, max_length)
    codes = index.difficulty[rows]
    used = np.flatnonzero(count(codes, len(index.difficulty_names)))
    order = sorted(used.tolist(), key=lambda code: index.difficulty_names[code])
    rank = np.zeros(len(index.difficulty_names), np.int32)
    rank[order] = np.arange(len(order))
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths[rows], out=offsets[1:])
    examples = Examples(
        tokens=StoredTokens(index, rows, offsets, tokenizer, template),
        offsets=offsets,
        prompt_lengths=prompts[rows],
        is_correct=labels[rows],
        task_ids=StoredTaskIds(index, rows),
        problems=order_of_appearance(index.problem[rows]),
        difficulty=rank[codes],
        difficulty_names=tuple(index.difficulty_names[code] for code in order),
        counts=counts,
    )
    index.release()
    return examples


def _too_long(where: str, task_id: str, max_length: int) -> DataError:
    return DataError(
        f"{where}: the record '{task_id}' has more than max_length {max_length} tokens; "
        "raise max_length or set over_length to 'drop'."
    )


def _nothing_left(path: str | Path, counts: Counts, max_length: int) -> DataError:
    return DataError(f"{path}: nothing to train on, {counts}; change max_length {max_length}, the filters or the file.")


def _not_said(where: str) -> DataError:
    return DataError(
        f"{where}: metadata.clean is not true or false, but clean_only was asked for; add it or drop the option."
    )


def _label(is_correct: bool | None) -> int:
    return UNKNOWN if is_correct is None else int(is_correct)


def _is_clean(record: Record, where: str) -> bool:
    clean = record.metadata.get("clean")
    if not isinstance(clean, bool):
        raise _not_said(where)
    return clean


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}.")
