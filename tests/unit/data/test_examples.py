"""A file becomes columns; whatever is left out is counted."""

import dataclasses

import numpy as np
import pytest

from wmtp_jax.data import Counts, DataError, encode_record, load_examples, read_records


@pytest.fixture
def load(tokenizer):
    def load(path, **options):
        return load_examples(path, tokenizer, **{"template": "raw", "max_length": 100, **options})

    return load


@pytest.fixture
def mixed(write_jsonl, fields):
    """Correct, incorrect, unlabelled, and a long one."""
    rows = [{**fields, "task_id": str(i), "is_correct": label} for i, label in enumerate([True, False, None])]
    return write_jsonl(*rows, {**fields, "task_id": "3", "output": "    x = 1\n" * 100})


def test_columns_hold_what_encoding_makes(mixed, load, tokenizer):
    examples = load(mixed, policy_samples="all", max_length=5000)
    single = [encode_record(record, tokenizer, "raw", 5000) for record in read_records(mixed)]
    assert len(examples) == 4
    for i, example in enumerate(single):
        tokens = examples.tokens[examples.offsets[i] : examples.offsets[i + 1]]
        np.testing.assert_array_equal(tokens, example.tokens)
        np.testing.assert_array_equal(np.arange(len(tokens)) >= examples.prompt_lengths[i], example.target_mask)
    np.testing.assert_array_equal(examples.lengths, [len(example.tokens) for example in single])
    np.testing.assert_array_equal(examples.is_correct, [1, 0, -1, 1])
    assert examples.task_ids == ("0", "1", "2", "3")
    assert [column.dtype for column in (examples.tokens, examples.offsets, examples.prompt_lengths)] == [
        np.int32,
        np.int64,
        np.int32,
    ]
    assert examples.is_correct.dtype == np.int8


def test_incorrect_solutions_are_not_imitated_but_unlabelled_ones_are(mixed, load):
    examples = load(mixed)
    assert examples.task_ids == ("0", "2")
    assert examples.counts == Counts(read=4, kept=2, over_length=1, incorrect=1, not_clean=0)
    assert str(examples.counts) == "2 of 4 records kept (left out: 1 over-long, 1 incorrect, 0 not clean)"


def test_all_samples_stay_with_policy_samples_all(mixed, load):
    assert load(mixed, policy_samples="all").task_ids == ("0", "1", "2")


def test_over_long_records_are_refused_on_request(mixed, load):
    with pytest.raises(DataError, match=r"records\.jsonl:4: the record '3' has more than max_length 100 tokens; raise"):
        load(mixed, over_length="error")


def test_clean_only_keeps_the_clean(write_jsonl, fields, load):
    rows = [{**fields, "task_id": str(i), "metadata": {"clean": bool(i % 2)}} for i in range(5)]
    examples = load(write_jsonl(*rows), clean_only=True)
    assert examples.task_ids == ("1", "3")
    assert examples.counts.not_clean == 3


def test_clean_only_needs_to_know(write_jsonl, fields, load):
    path = write_jsonl(fields, {**fields, "metadata": {}})
    with pytest.raises(DataError, match=r":2: metadata\.clean is not true or false"):
        load(path, clean_only=True)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"over_length": "truncate"}, "over_length is 'truncate'; expected one of 'drop', 'error'"),
        ({"policy_samples": "both"}, "policy_samples is 'both'; expected one of 'correct', 'all'"),
        ({"template": "chatml"}, "unknown prompt template 'chatml'"),
        ({"max_length": 3}, "nothing to train on, 0 of 4 records kept"),
    ],
)
def test_wrong_options(mixed, load, option, said):
    with pytest.raises(DataError, match=said):
        load(mixed, **option)


def test_a_bad_line_stops_the_loading(write_jsonl, fields, load):
    with pytest.raises(DataError, match=":3: not valid JSON"):
        load(write_jsonl(fields, fields, b"{", fields))


def test_the_digest_tells_every_column(numbered):
    examples = numbered([5, 6, 7])
    assert examples.digest == numbered([5, 6, 7]).digest
    digests = {examples.digest, numbered([5, 7, 6]).digest, numbered([5, 6, 7], [1, 1, 2]).digest}
    for name in ("tokens", "offsets", "is_correct"):
        column = getattr(examples, name).copy()
        column[1] += 1
        digests.add(dataclasses.replace(examples, **{name: column}).digest)
    digests.add(dataclasses.replace(examples, task_ids=("task_0", "task_1", "task_9")).digest)
    assert len(digests) == 7
