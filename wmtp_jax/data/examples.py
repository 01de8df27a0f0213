"""The examples of a data set: records of a token store that pass the filters, and what training adds to them."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wmtp_jax.data.encoding import Example
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.memory import return_freed_memory
from wmtp_jax.data.records import UNKNOWN, Record, task_of
from wmtp_jax.data.token_store import TokenStore, offsets_of, open_store
from wmtp_jax.data.tokenizer import Tokenizer
from wmtp_jax.errors import shown


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many records of a file were read and kept, and how many were left out, by reason."""

    read: int
    kept: int
    over_length: int = 0
    incorrect: int = 0
    not_clean: int = 0
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
    """A tokenized data set.

    Attributes:
        store: The tokens of all records.
        rows: int32 [n], the examples' records in it, ascending.
        is_correct: int8 [n]: 1, 0, or -1 for unknown.
        problems: int32 [n], the number of each example's problem (`task_of` its id).
        difficulty: int32 [n], each example's position in `difficulty_names`.
        difficulty_names: The difficulties that occur, sorted; "" stands for records that name none.
        counts: What was left out on the way.
        token_scores: Name -> float32 [sum of lengths]: further columns per token, which come out of batches as
            [B, S] arrays of that name. Computed from the data, hence no part of the digest.
        rewards: float32 [n], what takes the place of `is_correct` as the reward, in [0, 1]; None when nothing does.
            Comes out of batches as `reward` [B]; no part of the digest either.
    """

    store: TokenStore
    rows: np.ndarray
    is_correct: np.ndarray
    problems: np.ndarray
    difficulty: np.ndarray
    difficulty_names: tuple[str, ...]
    counts: Counts
    token_scores: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rewards: np.ndarray | None = None

    def __post_init__(self):
        """Refuses scores that belong to other tokens."""
        for name, scores in self.token_scores.items():
            expected = (int(self.offsets[-1]),)
            if scores.shape != expected or scores.dtype != np.float32:
                raise DataError(
                    f"token scores '{name}' are {scores.dtype} of shape {scores.shape}; expected float32 of shape "
                    f"{expected}, one per token, so compute them again for these examples."
                )

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.rows)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int32 [n], tokens per example."""
        return self.store.prompt_length(self.rows) + self.store.columns["response_length"][self.rows]

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [n + 1]; the token scores of example i are those from offsets[i] to offsets[i + 1]."""
        return offsets_of(self.lengths)

    @property
    def has_weights(self) -> bool:
        """Whether any record gives weights."""
        return self.store.has_weights

    def tokens(self, example: int) -> np.ndarray:
        """int32 [length], BOS + prompt + response + EOS of one example."""
        return np.concatenate(self.store.read(self.rows[example])[:2]).astype(np.int32)

    def records(self) -> Iterator[Record]:
        """The examples' records in their order, read from the file again."""
        return self.store.records(self.rows)

    def task_id(self, example: int) -> str:
        """One example's task id; that of a file is read from it, of a compressed one with all before it."""
        row = self.rows[example]
        return next(self.store.records([row])).task_id if self.store.task_ids is None else self.store.task_ids[row]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the records' part of a batch: all but what was computed from it."""
        state = hashlib.sha256(self.store.digest.encode())
        for column in (self.rows, self.is_correct, self.difficulty):
            state.update(np.ascontiguousarray(column))
        state.update("\0".join(self.difficulty_names).encode())
        return state.hexdigest()


def from_examples(examples: Sequence[Example]) -> Examples:
    """A data set in memory; the target masks must be False on the prompt and True on all that follows."""
    n = len(examples)
    names = tuple(sorted({example.difficulty for example in examples}))
    problems: dict[str, int] = {}
    prompts = [example.tokens[~example.target_mask] for example in examples]
    responses = [example.tokens[example.target_mask] for example in examples]
    labels = [UNKNOWN if example.is_correct is None else int(example.is_correct) for example in examples]
    of_problem = [problems.setdefault(task_of(example.task_id), len(problems)) for example in examples]
    columns = {
        "prompt": np.arange(n, dtype=np.int32),
        "prompt_length": np.array([len(ids) for ids in prompts], np.int32),
        "response_length": np.array([len(ids) for ids in responses], np.int32),
        "prompt_ids": _joined(prompts, np.uint32),
        "response_ids": _joined(responses, np.uint32),
        "is_correct": np.array(labels, np.int8),
        "problem": np.array(of_problem, np.int32),
        "difficulty": np.array([names.index(example.difficulty) for example in examples], np.int32),
    }
    if any(example.weights is not None for example in examples):
        weights = [
            np.ones(len(response)) if example.weights is None else example.weights[example.target_mask]
            for example, response in zip(examples, responses, strict=True)
        ]
        columns["response_weights"] = _joined(weights, np.float32)
    task_ids = [example.task_id for example in examples]
    state = hashlib.sha256("\0".join((*names, "", *task_ids)).encode())
    for name, column in columns.items():
        state.update(f"{name} {len(column)}".encode() + column.tobytes())
    store = TokenStore(columns, names, state.hexdigest(), task_ids=task_ids)
    return _select(store, np.arange(n, dtype=np.int32), Counts(n, n))


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0)]).astype(dtype)


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

    The tokens are made at the first use of the file and read from disk afterwards, see `token_store`.

    Args:
        path: A .jsonl or .jsonl.gz file of records.
        tokenizer: The model's tokenizer.
        template: Name of the prompt template.
        max_length: Largest number of tokens per example, BOS and EOS included.
        over_length: What happens to a longer record: "drop" leaves it out and counts it, "error" refuses the file.
        policy_samples: "correct" leaves out records labelled incorrect and keeps unlabelled ones; "all" keeps both. A
            critic learns from both: its objectives load "all", and their policy mask chooses by `is_correct`.
        clean_only: Keeps only records whose metadata.clean is true (the data of a reference model).
        max_per_problem: Largest number of correct, of incorrect and of unlabelled solutions kept per problem; 0 keeps
            all. The first of the file that pass the other filters are kept, so no seed decides what the data are.

    Returns:
        The examples, in the order of the file.

    Raises:
        UserError: A record or an option is wrong, or no record is left.
    """
    for name, value, choices in (
        ("over_length", over_length, ("drop", "error")),
        ("policy_samples", policy_samples, ("correct", "all")),
    ):
        if value not in choices:
            raise DataError(f"{name} is {shown(value)}; expected {choices[0]!r} or {choices[1]!r}.")
    if max_per_problem < 0:
        raise DataError(f"max_per_problem is {max_per_problem}; expected 0 (all) or more.")
    store = open_store(path, tokenizer, template)
    labels, clean = store.columns["is_correct"], store.columns["clean"]
    if clean_only and (clean == UNKNOWN).any():
        raise DataError(
            f"{path}:{np.argmax(clean == UNKNOWN) + 1}: metadata.clean is not true or false, but clean_only was asked "
            "for; add it or drop the option."
        )
    not_clean = (clean != 1) & clean_only
    incorrect = (labels == 0) & ~not_clean & (policy_samples == "correct")
    wanted = ~(not_clean | incorrect)
    fitting = store.prompt_length(slice(None)) + store.columns["response_length"] <= max_length
    over_cap = np.zeros(len(store), bool)
    if max_per_problem:
        over_cap = _after_the_first(max_per_problem, np.flatnonzero(wanted), store.columns["problem"], labels, fitting)
    too_long = wanted & ~over_cap & ~fitting
    if over_length == "error" and too_long.any():
        row = int(np.argmax(too_long))
        raise DataError(
            f"{path}:{row + 1}: the record {shown(next(store.records([row])).task_id)} has more than max_length "
            f"{max_length} tokens; raise max_length or set over_length to 'drop'."
        )
    rows = np.flatnonzero(wanted & fitting & ~over_cap).astype(np.int32)
    counts = Counts(len(store), len(rows), *(int(np.sum(out)) for out in (too_long, incorrect, not_clean, over_cap)))
    if not len(rows):
        raise DataError(
            f"{path}: nothing to train on, {counts}; change max_length {max_length}, the filters or the file."
        )
    return _select(store, rows, counts)


def _after_the_first(
    n: int, rows: np.ndarray, problems: np.ndarray, labels: np.ndarray, fitting: np.ndarray
) -> np.ndarray:
    """Which of all records are those of `rows` that come after the first n fitting ones of their problem and label."""
    key = problems[rows].astype(np.int64) * 3 + labels[rows] + 1
    rows = rows[np.argsort(key, kind="stable")]
    key = np.sort(key, kind="stable")
    before = np.cumsum(fitting[rows]) - fitting[rows]
    after = np.zeros(len(fitting), bool)
    after[rows] = before - before[np.searchsorted(key, key)] >= n
    return after


def _select(store: TokenStore, rows: np.ndarray, counts: Counts) -> Examples:
    # Where all are kept, the columns of the store itself, which take no memory.
    kept = slice(None) if len(rows) == len(store) else rows
    codes, names = store.columns["difficulty"][kept], store.difficulty_names
    occurring = np.zeros(len(names), bool)
    occurring[codes] = True
    order = sorted(np.flatnonzero(occurring).tolist(), key=names.__getitem__)
    position = np.zeros(len(names), np.int32)
    position[order] = np.arange(len(order))
    examples = Examples(
        store=store,
        rows=rows,
        is_correct=store.columns["is_correct"][kept],
        problems=store.columns["problem"][kept],
        difficulty=position[codes],
        difficulty_names=tuple(names[code] for code in order),
        counts=counts,
    )
    return_freed_memory()
    return examples
