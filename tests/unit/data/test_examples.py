"""A file becomes columns; whatever is left out is counted."""

import dataclasses

import numpy as np
import pytest

from wmtp_jax.data import Counts, DataError, Example, encode_record, from_examples, load_examples, read_records


def task_ids(examples):
    return tuple(record.task_id for record in examples.records())


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
        tokens = examples.tokens(i)
        np.testing.assert_array_equal(tokens, example.tokens)
    np.testing.assert_array_equal(examples.lengths, [len(example.tokens) for example in single])
    np.testing.assert_array_equal(examples.is_correct, [1, 0, -1, 1])
    assert task_ids(examples) == ("0", "1", "2", "3")
    columns = (examples.tokens(0), examples.offsets, examples.lengths)
    assert [column.dtype for column in columns] == [np.int32, np.int64, np.int32]
    assert examples.is_correct.dtype == np.int8


def test_incorrect_solutions_are_left_out_and_unlabelled_ones_kept_unless_all_are_wanted(mixed, load):
    examples = load(mixed)
    assert task_ids(examples) == ("0", "2")
    assert examples.counts == Counts(read=4, kept=2, over_length=1, incorrect=1)
    assert str(examples.counts) == "2 of 4 records kept (left out: 1 over-long, 1 incorrect, 0 not clean)"
    everything = load(mixed, policy_samples="all")
    assert task_ids(everything) == ("0", "1", "2")
    assert (everything.task_id(1), examples.task_id(1)) == ("1", "2")


def test_over_long_records_are_refused_on_request(mixed, load):
    with pytest.raises(DataError, match=r"records\.jsonl:4: the record '3' has more than max_length 100 tokens; raise"):
        load(mixed, over_length="error")


def test_clean_only_keeps_the_clean(write_jsonl, fields, load):
    rows = [{**fields, "task_id": str(i), "metadata": {"clean": bool(i % 2)}} for i in range(5)]
    examples = load(write_jsonl(*rows), clean_only=True)
    assert task_ids(examples) == ("1", "3")
    assert examples.counts.not_clean == 3


def test_clean_only_needs_to_know(write_jsonl, fields, load):
    path = write_jsonl(fields, {**fields, "metadata": {}})
    with pytest.raises(DataError, match=r":2: metadata\.clean is not true or false"):
        load(path, clean_only=True)


def test_problems_and_difficulties(write_jsonl, fields, load):
    rows = [("b_correct_0", "hard"), ("a_correct_3", "easy"), ("b_incorrect_12", "hard"), ("a", None), ("b_2", 7)]
    metadata = [{} if name is None else {"difficulty": name} for _, name in rows]
    examples = load(
        write_jsonl(
            *({**fields, "task_id": task, "metadata": data} for (task, _), data in zip(rows, metadata, strict=True))
        )
    )
    np.testing.assert_array_equal(examples.problems, np.array([0, 1, 0, 1, 2], np.int32), strict=True)
    assert examples.difficulty_names == ("", "7", "easy", "hard")
    np.testing.assert_array_equal(examples.difficulty, np.array([3, 2, 3, 0, 1], np.int32), strict=True)


@pytest.mark.parametrize(("cap", "kept"), [(1, "0126"), (2, "012346"), (3, "01234567"), (0, "01234567")])
def test_a_problem_keeps_the_first_solutions_of_each_label(write_jsonl, fields, load, cap, kept):
    rows = [("a", 1), ("a", 0), ("b", 1), ("a", 1), ("a", 0), ("a", 1), ("c", None), ("a", 0)]
    names = {1: ("_correct_", True), 0: ("_incorrect_", False), None: ("_correct_", None)}
    path = write_jsonl(
        *(
            {**fields, "task_id": f"{problem}{names[label][0]}{i}", "is_correct": names[label][1]}
            for i, (problem, label) in enumerate(rows)
        )
    )
    examples = load(path, policy_samples="all", max_per_problem=cap)
    assert "".join(task_id[-1] for task_id in task_ids(examples)) == kept
    assert examples.counts.over_cap == len(rows) - len(kept)
    assert (f", {len(rows) - len(kept)} over the cap per problem)" in str(examples.counts)) == (len(kept) < len(rows))


def test_over_long_solutions_do_not_use_up_the_cap(write_jsonl, fields, load):
    long = {**fields, "task_id": "a_correct_0", "output": "    x = 1\n" * 100}
    examples = load(write_jsonl(long, {**fields, "task_id": "a_correct_1"}), max_per_problem=1)
    assert task_ids(examples) == ("a_correct_1",)


@pytest.mark.parametrize("scores", [np.zeros(17, np.float32), np.zeros(18), np.zeros((1, 18), np.float32)])
def test_scores_of_other_tokens_are_refused(numbered, scores):
    with pytest.raises(DataError, match=r"token scores 'reference_nll' are float.*expected float32 of shape \(18,\)"):
        dataclasses.replace(numbered([5, 6, 7]), token_scores={"reference_nll": scores})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"over_length": "truncate"}, "over_length is 'truncate'; expected 'drop' or 'error'"),
        ({"policy_samples": "both"}, "policy_samples is 'both'; expected 'correct' or 'all'"),
        ({"max_per_problem": -1}, "max_per_problem is -1; expected 0"),
        ({"template": "chatml"}, "template is 'chatml'; expected one of 'raw', 'alpaca'"),
    ],
)
def test_options_that_do_not_exist(mixed, load, option, said):
    with pytest.raises(DataError, match=said):
        load(mixed, **option)


def test_a_file_of_which_nothing_is_left(mixed, load):
    with pytest.raises(DataError, match="nothing to train on, 0 of 4 records kept"):
        load(mixed, max_length=3)


def test_the_digest_tells_every_column(numbered):
    examples = numbered([5, 6, 7])
    assert examples.digest == numbered([5, 6, 7]).digest
    digests = {examples.digest, numbered([5, 7, 6]).digest, numbered([5, 6, 7], [1, 1, 2]).digest}
    for name in ("is_correct", "difficulty"):
        column = getattr(examples, name).copy()
        column[1] += 1
        digests.add(dataclasses.replace(examples, **{name: column}).digest)
    rows = [(np.array([4, 5], np.int32), "a"), (np.array([4, 6], np.int32), "a"), (np.array([4, 5], np.int32), "b")]
    digests |= {from_examples([Example(ids, np.array([False, True]), True, name)]).digest for ids, name in rows}
    digests.add(dataclasses.replace(examples, difficulty_names=("easy",)).digest)
    assert len(digests) == 9


def test_the_digest_tells_the_selection_and_not_the_scores(mixed, load, numbered, with_scores):
    options = ({}, {"max_length": 5000}, {"policy_samples": "all"})
    assert load(mixed).digest == load(mixed).digest
    assert len({load(mixed, **some).digest for some in options}) == 3
    assert with_scores(numbered([5, 6, 7])).digest == numbered([5, 6, 7]).digest
