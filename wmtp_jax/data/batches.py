"""Training batches as a resumable stream, evaluation batches as a finite one."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.memory import return_freed_memory
from wmtp_jax.data.order import Stream, batch_order, permutation
from wmtp_jax.data.packing import first_fit
from wmtp_jax.data.records import UNKNOWN
from wmtp_jax.data.sampling import Sampling, sampling_streams

Batch = dict[str, np.ndarray]

_PREFETCH = 2  # batches that wait ready-made for the device


class TrainingBatches(Iterator[Batch]):
    """An endless, resumable stream of batches; batch(step) depends on the data, the settings and the step alone.

    Attributes:
        steps_per_epoch: Batches in which every row (or pair) is seen once, on average.
        fingerprint: What the stream depends on; a state saved under another one is refused.
    """

    def __init__(self, make_batch: Callable[[int], Batch], steps_per_epoch: float, fingerprint: dict):
        """Streams what `make_batch` makes of the steps; use `make_batches`."""
        import grain  # brings jax and orbax along, which reading records must not

        self.steps_per_epoch, self.fingerprint = steps_per_epoch, fingerprint
        self._make_batch = make_batch
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH)
        steps = grain.MapDataset.range(sys.maxsize)
        self._iterator = iter(steps.map(make_batch).to_iter_dataset(options))

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of a step, counted from 0: see `collate`, B = batch_size / process_count."""
        return self._make_batch(step)

    def __next__(self) -> Batch:
        """The next batch, made ahead by a thread."""
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, for JSON: `next_step`, the batch that comes next, and the fingerprint."""
        return {"next_step": int(self._iterator.get_state()["next_index"]), "fingerprint": dict(self.fingerprint)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where a state was taken, in this process or another.

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
    """Starts the stream of training batches, at step 0.

    Args:
        examples: The data set.
        batch_size: Rows per global batch.
        seed: Decides the order of everything.
        buckets: Padded lengths S, ascending. A batch has the length of its bucket: as many compiled steps as buckets.
        pack: Packs several documents into each row of the largest bucket's length instead, told apart by segment ids.
            Which documents share a row is decided once; the order of rows changes with each epoch.
        sampling: Which examples make up a batch; None takes each once per epoch.
        process_index: Which part of the global batch this process makes.
        process_count: Into how many parts it is divided.

    Raises:
        DataError: A setting is wrong, an example fits no bucket, or the data do not have what `sampling` asks for.
    """
    _check_lengths(examples, buckets)
    mine = _part_of_batch(batch_size, process_index, process_count)
    token_scores = {
        name: hashlib.sha256(np.ascontiguousarray(scores)).hexdigest() for name, scores in examples.token_scores.items()
    }
    fingerprint = {
        "examples": examples.digest,
        "token_scores": token_scores or None,
        "seed": seed,
        "batch_size": batch_size,
        "pack": pack,
        "sampling": sampling.fingerprint if sampling else None,
    }
    if pack and fingerprint["sampling"]:
        raise DataError(
            "pack puts several documents into a row but sampling chooses single ones; "
            "set pack to False or drop correct_ratio, pairs and difficulty_weights."
        )
    share = batch_size // process_count
    if sampling and sampling.pairs and share % 2:
        raise DataError(
            f"batch_size {batch_size} gives {share} rows to each of {process_count} process(es); expected an even "
            "number, so that no pair is torn apart."
        )
    lengths = examples.lengths
    if pack:
        buckets = buckets[-1:]
        documents, edges = first_fit(lengths, permutation(len(examples), seed, "packing"), buckets[0])
        lengths = np.add.reduceat(lengths[documents], edges[:-1])
    if fingerprint["sampling"]:
        streams = sampling_streams(examples, sampling, batch_size=batch_size, seed=seed)
    elif len(lengths) < batch_size:
        raise DataError(
            f"batch_size is {batch_size} but the data fill only {len(lengths)} rows; "
            "expected at least one full batch, so lower batch_size or bring more data."
        )
    else:
        streams = [Stream(np.arange(len(lengths), dtype=np.int32)[:, None], batch_size)]

    rows_of = batch_order(streams, lengths, buckets=buckets, seed=seed)
    return_freed_memory()

    def make_batch(step: int) -> Batch:
        rows = rows_of(step)
        # The bucket is that of the global batch, so that all processes pad alike.
        row_length = next(bucket for bucket in buckets if bucket >= lengths[rows].max())
        rows = rows[mine].tolist()
        return collate(examples, [documents[edges[i] : edges[i + 1]] if pack else [i] for i in rows], row_length)

    return TrainingBatches(
        make_batch,
        steps_per_epoch=sum(stream.n_items for stream in streams) / sum(stream.share for stream in streams),
        fingerprint={**fingerprint, "buckets": list(buckets)},
    )


def evaluation_batches(
    examples: Examples,
    *,
    batch_size: int,
    buckets: Sequence[int],
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """All examples once, in their order: row b of batch i is example i * batch_size + b.

    The last batch is filled up with empty rows (segment 0). Arguments, keys of the batches and errors are those of
    `make_batches`.
    """
    _check_lengths(examples, buckets)
    mine = _part_of_batch(batch_size, process_index, process_count)

    def generate() -> Iterator[Batch]:
        for start in range(0, len(examples), batch_size):
            longest = examples.lengths[start : start + batch_size].max()
            row_length = next(bucket for bucket in buckets if bucket >= longest)
            rows = [[i] if i < len(examples) else [] for i in range(start, start + batch_size)]
            yield collate(examples, rows[mine], row_length)

    return generate()


def collate(examples: Examples, rows: Sequence[Sequence[int]], row_length: int) -> Batch:
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
    tokens_BxS, segment_ids_BxS = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    target_mask_BxS = np.zeros(shape, bool)
    is_correct_B, rows_B = np.full(len(rows), UNKNOWN, np.int8), np.full(len(rows), -1, np.int32)
    names = (*examples.token_scores, *(["weights"] if examples.has_weights else []))
    batch = {name: np.zeros(shape, np.float32) for name in names}
    for b, documents in enumerate(rows):
        end = 0
        for segment, document in enumerate(documents, start=1):
            prompt, response, weights = examples.store.read(examples.rows[document])
            begin, middle = end, end + len(prompt)
            end = middle + len(response)
            tokens_BxS[b, begin:middle] = prompt
            tokens_BxS[b, middle:end] = response
            segment_ids_BxS[b, begin:end] = segment
            target_mask_BxS[b, middle:end] = True
            for name, scores in examples.token_scores.items():
                batch[name][b, begin:end] = scores[examples.offsets[document] : examples.offsets[document + 1]]
            if weights is not None:
                batch["weights"][b, middle:end] = weights
        if len(documents) == 1:
            is_correct_B[b], rows_B[b] = examples.is_correct[documents[0]], documents[0]
    if examples.rewards is not None:
        batch["reward"] = np.where(rows_B < 0, 0, examples.rewards[rows_B]).astype(np.float32)
    return batch | {
        "tokens": tokens_BxS,
        "segment_ids": segment_ids_BxS,
        "target_mask": target_mask_BxS,
        "is_correct": is_correct_B,
        "rows": rows_B,
    }


def _check_lengths(examples: Examples, buckets: Sequence[int]) -> None:
    if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
        raise DataError(f"buckets are {buckets}; expected one or more lengths in ascending order, e.g. (64, 96, 128).")
    if not len(examples):
        raise DataError("there are no examples to make batches of; check the file and its filters.")
    longest = int(examples.lengths.max())
    if longest > buckets[-1]:
        raise DataError(
            f"the longest example has {longest} tokens but the largest bucket only {buckets[-1]}; "
            "expected every example to fit, so add a larger bucket or lower max_length."
        )


def _part_of_batch(batch_size: int, process_index: int, process_count: int) -> slice:
    """This process's rows of the global batch."""
    if batch_size < 1 or batch_size % process_count:
        raise DataError(f"batch_size is {batch_size}; expected a positive multiple of the {process_count} process(es).")
    if not 0 <= process_index < process_count:
        raise DataError(f"process_index is {process_index}; expected 0 to {process_count - 1}.")
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)
