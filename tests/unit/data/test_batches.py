"""The stream of batches: resumable bit for bit, the same for any number of processes, refused under other settings."""

import collections
import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from wmtp_jax.data import DataError, evaluation_batches

LENGTHS = np.random.default_rng(3).integers(5, 97, 60).tolist()
BUCKETS = (32, 64, 96)
PADDED_AND_PACKED = pytest.mark.parametrize("pack", [False, True])


@pytest.fixture
def stream(numbered, start):
    return lambda lengths=LENGTHS, **changes: start(numbered(lengths), **changes)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


def documents_of(batch):
    """Numbers of the examples in a batch: the token of example i is i + 1."""
    return [
        int(tokens[segments == segment][0]) - 1
        for tokens, segments in zip(batch["tokens"], batch["segment_ids"], strict=True)
        for segment in range(1, segments.max() + 1)
    ]


@PADDED_AND_PACKED
@pytest.mark.parametrize("stopped_at", [0, 7, 23])
def test_a_resumed_stream_is_batch_of_step(stream, pack, stopped_at):
    batches, resumed = stream(pack=pack), stream(pack=pack)
    for step in range(stopped_at):
        assert_equal(next(batches), resumed.batch(step))
    state = json.loads(json.dumps(batches.get_state()))
    assert state["next_step"] == stopped_at
    next(resumed)
    resumed.set_state(state)
    assert resumed.get_state() == state
    for step in range(stopped_at, stopped_at + 12):
        batch = next(batches)
        assert_equal(batch, next(resumed))
        assert_equal(batch, batches.batch(step))


def test_another_process_makes_the_same_batches_and_reading_records_imports_no_accelerator_library(stream):
    program = """
import hashlib, itertools, sys
import numpy as np
from wmtp_jax.data import Example, from_examples, make_batches
print([module for module in ("jax", "grain", "orbax", "torch") if module in sys.modules])
lengths = np.random.default_rng(3).integers(5, 97, 60).tolist()
examples = [Example(np.full(n, i + 1, np.int32), np.arange(n) >= 1, [True, False, None][i % 3], f"task_{i}")
            for i, n in enumerate(lengths)]
batches = make_batches(from_examples(examples), batch_size=8, seed=5, buckets=(32, 64, 96))
print(hashlib.sha256(b"".join(batch["tokens"].tobytes() for batch in itertools.islice(batches, 10))).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = hashlib.sha256(b"".join(batch["tokens"].tobytes() for batch in itertools.islice(stream(), 10))).hexdigest()
    assert done.stdout.split("\n")[:2] == ["[]", here]


@pytest.mark.parametrize("options", [{"pack": True, "batch_size": 1}, {"buckets": (96,)}], ids=str)
def test_every_example_once_per_epoch(stream, options):
    # 64 examples fill batches of 8 evenly; packed, rows do when one is taken at a time.
    batches = stream(lengths=(LENGTHS + LENGTHS)[:64], **options)
    assert batches.steps_per_epoch == int(batches.steps_per_epoch)
    for _ in range(3):
        epoch = [documents_of(next(batches)) for _ in range(int(batches.steps_per_epoch))]
        assert sorted(itertools.chain(*epoch)) == list(range(64))


def test_no_example_falls_behind_when_buckets_and_batches_do_not_divide_the_data(stream, numbered):
    batches, labels = stream(lengths=LENGTHS[:59]), numbered(LENGTHS[:59]).is_correct
    assert batches.steps_per_epoch == 59 / 8
    seen, shapes = collections.Counter(dict.fromkeys(range(59), 0)), set()
    for step, batch in enumerate(itertools.islice(batches, 118), start=1):
        documents = documents_of(batch)
        seen.update(documents)
        assert all(abs(visits - step * 8 / 59) <= 4 for visits in seen.values())
        np.testing.assert_array_equal(batch["is_correct"], labels[documents])
        shapes.add(batch["tokens"].shape)
    assert shapes == {(8, 32), (8, 64), (8, 96)}


@PADDED_AND_PACKED
def test_parts_of_several_processes_make_up_the_batch(stream, pack):
    whole = stream(pack=pack)
    parts = [stream(pack=pack, process_index=i, process_count=4) for i in range(4)]
    for _ in range(10):
        expected, made = next(whole), [next(part) for part in parts]
        assert_equal({name: np.concatenate([part[name] for part in made]) for name in expected}, expected)
    # The position is that of the global stream, so it can be taken up by another number of processes.
    assert parts[3].get_state() == whole.get_state()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 6}, "seed was 5 and is now 6"),
        ({"batch_size": 4}, "batch_size was 8 and is now 4"),
        ({"buckets": (48, 96)}, r"buckets was \[32, 64, 96\] and is now \[48, 96\]"),
        ({"pack": True}, "pack was False and is now True"),
        ({"lengths": [*LENGTHS, 5]}, "examples was"),
    ],
)
def test_a_state_of_another_stream_is_refused(stream, change, said):
    state = stream().get_state()
    other = stream(**change)
    with pytest.raises(DataError, match=f"the saved data position belongs to another stream: {said}"):
        other.set_state(state)
    assert other.get_state()["next_step"] == 0


@pytest.mark.parametrize("state", [{}, {"next_index": 3}, {"next_step": -1, "fingerprint": {}}, None])
def test_what_is_no_state_is_refused(stream, state):
    with pytest.raises(DataError, match="the saved data position is damaged"):
        stream().set_state(state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lengths": []}, "there are no examples to make batches of"),
        ({"buckets": (32, 64)}, f"the longest example has {max(LENGTHS)} tokens but the largest bucket only 64"),
        ({"buckets": ()}, "expected one or more lengths in ascending order"),
        ({"buckets": (96, 32, 128)}, "expected one or more lengths in ascending order"),
        ({"batch_size": 0}, "batch_size is 0; expected a positive multiple"),
        ({"batch_size": 61}, "batch_size is 61 but the data fill only 60 rows"),
        ({"process_count": 3}, "expected a positive multiple of the 3 process"),
        ({"process_index": 2, "process_count": 2}, "process_index is 2; expected 0 to 1"),
    ],
)
def test_wrong_settings(stream, change, said):
    with pytest.raises(DataError, match=said):
        stream(**change)


def test_evaluation_sees_each_example_once_in_order(numbered, with_scores):
    examples = with_scores(numbered(LENGTHS[:27]))
    batches = list(evaluation_batches(examples, batch_size=8, buckets=BUCKETS))
    assert len(batches) == 4
    assert list(itertools.chain(*map(documents_of, batches))) == list(range(27))
    rows = np.concatenate([batch["rows"] for batch in batches])
    np.testing.assert_array_equal(rows, [*range(27), *[-1] * 5])
    empty = {name: array[3:] for name, array in batches[-1].items()}
    assert not empty["segment_ids"].any()
    assert not empty["target_mask"].any()
    assert (empty["is_correct"] == -1).all()
    for i, batch in enumerate(batches):
        longest = max(LENGTHS[i * 8 : i * 8 + 8][: 27 - i * 8])
        assert batch["tokens"].shape == (8, min(bucket for bucket in BUCKETS if bucket >= longest))
    scores = np.concatenate([batch["reference_nll"][batch["segment_ids"] > 0] for batch in batches])
    np.testing.assert_array_equal(scores, examples.token_scores["reference_nll"])
    parts = [
        evaluation_batches(examples, batch_size=8, buckets=BUCKETS, process_index=i, process_count=2) for i in range(2)
    ]
    for expected, *made in zip(batches, *parts, strict=True):
        assert_equal({name: np.concatenate([part[name] for part in made]) for name in expected}, expected)


def test_packed_rows_carry_scores_but_no_row_numbers(start, numbered, with_scores):
    examples, seen = with_scores(numbered(LENGTHS)), {}
    for batch in itertools.islice(start(examples, pack=True), 12):
        assert batch["tokens"].shape == (8, 96)
        several = batch["segment_ids"].max(axis=1) > 1
        assert (batch["rows"][several] == -1).all()
        assert (batch["rows"][~several] >= 0).all()
        for tokens, scores in zip(batch["tokens"], batch["reference_nll"], strict=True):
            for document in set(tokens[tokens > 0].tolist()):
                seen[document - 1] = scores[tokens == document]
    assert len(seen) > 50
    for document, scores in seen.items():
        first, last = examples.offsets[document : document + 2]
        np.testing.assert_array_equal(scores, examples.token_scores["reference_nll"][first:last])


def test_wrong_evaluation_settings_are_said_at_the_call(numbered):
    with pytest.raises(DataError, match="largest bucket only 64"):
        evaluation_batches(numbered(LENGTHS), batch_size=8, buckets=(64,))
