"""Training batches as a resumable stream, evaluation batches as a finite one."""

import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wmtp_jax.data.collate import collate
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.large import return_freed_memory
from wmtp_jax.data.packing import OnePerRow, Rows, first_fit
from wmtp_jax.data.plan import ShuffledPlan, packing_order
from wmtp_jax.data.sampling import Sampling, sampling_streams

Batch = dict[str, np.ndarray]

# Batches that wait ready-made for the device.
_PREFETCH = 2


class TrainingBatches(Iterator[Batch]):
    """An endless, resumable stream of batches; batch(step) depends on the data, the settings and the step alone.

    Attributes:
        steps_per_epoch: Batches in which every row (or pair) is seen once, on average.
        fingerprint: What the stream depends on; a state saved under another one is refused.
    """

    def __init__(
        self,
        examples: Examples,
        rows: Rows | OnePerRow,
        plan: ShuffledPlan,
        *,
        batch_size: int,
        process_index: int,
        process_count: int,
        fingerprint: dict[str, Any],
    ):
        """Streams a plan; use `make_batches`."""
        # grain brings jax and orbax along, which reading records must not.
        import grain

        self.steps_per_epoch = plan.steps_per_epoch
        self.fingerprint = fingerprint
        self._examples = examples
        self._rows = rows
        self._plan = plan
        share = batch_size // process_count
        self._slice = slice(process_index * share, (process_index + 1) * share)
        # The first part of the plan is made here: the thread that makes batches ahead would not get back the memory
        # that this one has just used and freed.
        plan.batch(0)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH)
        self._iterator = iter(grain.MapDataset.source(_Steps(self)).to_iter_dataset(options))

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of a step.

        Args:
            step: Number of the batch, from 0.

        Returns:
            The arrays of `collate.collate`, B = batch_size / process_count.
        """
        row_numbers, row_length = self._plan.batch(step)
        return collate(self._examples, [self._rows[row] for row in row_numbers[self._slice]], row_length)

    def __next__(self) -> Batch:
        """The next batch, made ahead by a thread."""
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands.

        Returns:
            A dict for JSON: `next_step`, the number of the batch that comes next, and the fingerprint.
        """
        return {"next_step": int(self._iterator.get_state()["next_index"]), "fingerprint": dict(self.fingerprint)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where a state was taken.

        Args:
            state: A result of `get_state`, in this process or another.

        Raises:
            DataError: The state belongs to other data or other settings, or is none.
        """
        saved, next_step = (state.get(key) if isinstance(state, dict) else None for key in ("fingerprint", "next_step"))
        if not isinstance(saved, dict) or not isinstance(next_step, int) or next_step < 0:
            raise DataError(
                "the saved data position is damaged; expected next_step and fingerprint, take another checkpoint."
            )
        for name, now in self.fingerprint.items():
            was = saved.get(name)
            if was != now:
                raise DataError(
                    f"the saved data position belongs to another stream: {name} was {was} and is now {now}; "
                    "continue with the settings and data of the saved run, or start a new run."
                )
        self._iterator.set_state({"next_index": next_step})

    def close(self) -> None:
        """Stops the thread that makes batches ahead."""
        self._iterator.close()


class _Steps:
    """The stream as grain's random-access source."""

    def __init__(self, batches: TrainingBatches):
        self._batches = batches

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> Batch:
        return self._batches.batch(step)


def make_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    buckets: Sequence[int],
    pack: bool = False,
    sampling: Sampling | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainingBatches:
    """Starts the stream of training batches.

    Args:
        examples: The data set.
        batch_size: Rows per global batch.
        seed: Decides the order of everything.
        buckets: Padded lengths S. A batch has the length of its bucket: as many compiled steps as buckets.
        pack: Packs several documents into each row of the largest bucket's length instead, told apart by segment ids.
            Which documents share a row is decided once; the order of rows changes with each epoch.
        sampling: Which examples make up a batch; None takes each once per epoch.
        process_index: Which part of the global batch this process makes.
        process_count: Into how many parts it is divided.

    Returns:
        The stream, at step 0.

    Raises:
        DataError: A setting is wrong, an example fits no bucket, or the data do not have what `sampling` asks for.
    """
    buckets = _check_buckets(examples, buckets)
    _check_sizes(batch_size, process_index, process_count)
    if seed < 0:
        raise DataError(f"seed is {seed}; expected 0 or more.")
    score_digests = {
        name: hashlib.sha256(np.ascontiguousarray(scores)).hexdigest() for name, scores in examples.token_scores.items()
    }
    fingerprint = {
        "examples": examples.digest,
        "token_scores": score_digests or None,
        "seed": seed,
        "batch_size": batch_size,
        "pack": pack,
        "sampling": sampling.fingerprint if sampling else None,
    }
    streams = None
    if fingerprint["sampling"]:
        if pack:
            raise DataError(
                "pack puts several documents into a row but sampling chooses single ones; "
                "set pack to False or drop correct_ratio, pairs and difficulty_weights."
            )
        if sampling.pairs and batch_size // process_count % 2:
            raise DataError(
                f"batch_size {batch_size} gives {batch_size // process_count} rows to each of {process_count} "
                "process(es); expected an even number, so that no pair is torn apart."
            )
        streams = sampling_streams(examples, sampling, batch_size=batch_size, seed=seed)
    if pack:
        buckets = buckets[-1:]
        rows = first_fit(examples.lengths, packing_order(len(examples), seed), buckets[0])
    else:
        rows = OnePerRow(len(examples))
    plan = ShuffledPlan(
        rows.tokens(examples.lengths), batch_size=batch_size, buckets=buckets, seed=seed, streams=streams
    )
    batches = TrainingBatches(
        examples,
        rows,
        plan,
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
        fingerprint={**fingerprint, "buckets": list(buckets)},
    )
    return_freed_memory()
    return batches


def evaluation_batches(
    examples: Examples,
    *,
    batch_size: int,
    buckets: Sequence[int],
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """All examples once, in their order: row b of batch i is example i * batch_size + b.

    Args:
        examples: The data set.
        batch_size: Rows per global batch; the last batch is filled up with empty rows (segment 0).
        buckets: Padded lengths; a batch takes the smallest that holds its longest row.
        process_index: Which part of the global batch this process makes.
        process_count: Into how many parts it is divided.

    Returns:
        Batches with the keys of the training batches.

    Raises:
        DataError: A setting is wrong, or an example fits no bucket.
    """
    buckets = _check_buckets(examples, buckets)
    _check_sizes(batch_size, process_index, process_count)
    share, lengths = batch_size // process_count, examples.lengths

    def generate() -> Iterator[Batch]:
        for start in range(0, len(examples), batch_size):
            longest = lengths[start : start + batch_size].max()
            row_length = next(bucket for bucket in buckets if bucket >= longest)
            first = start + process_index * share
            numbers = [np.arange(i, min(i + 1, len(examples))) for i in range(first, first + share)]
            yield collate(examples, numbers, row_length)

    return generate()


def _check_buckets(examples: Examples, buckets: Sequence[int]) -> tuple[int, ...]:
    buckets = tuple(int(bucket) for bucket in buckets)
    if not buckets or buckets[0] < 1 or any(a >= b for a, b in itertools.pairwise(buckets)):
        raise DataError(f"buckets are {buckets}; expected one or more lengths in ascending order, e.g. (64, 96, 128).")
    if not len(examples):
        raise DataError("there are no examples to make batches of; check the file and its filters.")
    longest = int(examples.lengths.max())
    if longest > buckets[-1]:
        raise DataError(
            f"the longest example has {longest} tokens but the largest bucket only {buckets[-1]}; "
            "expected every example to fit, so add a larger bucket or lower max_length."
        )
    return buckets


def _check_sizes(batch_size: int, process_index: int, process_count: int) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise DataError(f"batch_size is {batch_size}; expected a positive multiple of the {process_count} process(es).")
    if not 0 <= process_index < process_count:
        raise DataError(f"process_index is {process_index}; expected 0 to {process_count - 1}.")
