"""Weights of characters become weights of tokens: the mean over a token's characters, from the file to the batch."""

import collections
import gzip
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import (
    DataError,
    Record,
    encode_record,
    evaluation_batches,
    from_examples,
    load_examples,
    load_tokenizer,
    open_store,
)

PIECES = st.sampled_from(
    [" ", "    ", "\n", "\t", "x", "return", "=", "é", "\u4e16", "\U0001f600", "\u2581", "e\u0301"]
)
OUTPUTS = st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(str.strip)


@pytest.fixture(scope="module", params=["tokenizer", "llama_tokenizer", "mistral_tokenizer"])
def any_tokenizer(request):
    return request.getfixturevalue(request.param)


def weighted(output, weights):
    return Record("f(", "", output, "a_correct_0", True, {}, weights)


def response_of(output, weights, tokenizer):
    """(token's id, its weight) of the response, EOS included."""
    example = encode_record(weighted(output, weights), tokenizer, "raw", 10_000)
    assert not example.weights[~example.target_mask].any()
    assert example.weights.dtype == np.float32
    return example.tokens[example.target_mask].tolist(), example.weights[example.target_mask].tolist()


def test_by_hand(train_tokenizer):
    """Pieces: "    ", "ab", "cd", then the four bytes of an emoji, the two of "é", and EOS."""
    tokenizer = load_tokenizer(
        train_tokenizer(["    abcd\n"], vocab_size=266, user_defined_symbols=[4 * " ", "ab", "cd"])
    )
    output = "    abcd\U0001f600é"
    ids, _ = response_of(output, (), tokenizer)
    assert [tokenizer.decode([i]) for i in ids[:3]] == ["    ", "ab", "cd"]
    assert len(ids) == 3 + 4 + 2 + 1
    # Characters: 0-3 spaces, 4 a, 5 b, 6 c, 7 d, 8 the emoji, 9 é.
    for weights, expected in [
        ((), [1] * 10),
        (((0, 10, 0.5),), [0.5] * 9 + [1]),
        (((3, 5, 3.0),), [1.5, 2, 1, 1, 1, 1, 1, 1, 1, 1]),
        (((5, 6, 0.0), (6, 7, 5.0)), [1, 0.5, 3, 1, 1, 1, 1, 1, 1, 1]),
        (((8, 9, 4.0),), [1, 1, 1, 4, 4, 4, 4, 1, 1, 1]),
        (((7, 8, 2.0), (9, 10, 0.25)), [1, 1, 1.5, 1, 1, 1, 1, 0.25, 0.25, 1]),
        (((0, 4, 2.0**60),), [2.0**60] + [1] * 9),  # a large weight takes nothing from those after it
    ]:
        assert response_of(output, weights, tokenizer) == (ids, expected)


def test_the_dummy_prefix_has_no_weight_and_shifts_none(llama_tokenizer):
    """The prefix that is put before a text belongs to no character; the first token begins at character 0."""
    ids, weights = response_of("x  y", ((0, 1, 7.0),), llama_tokenizer)
    assert llama_tokenizer.decode_continuation(llama_tokenizer.encode("f("), ids) == "x  y"
    assert weights[0] == 7
    assert set(weights[1:]) == {1}
    assert llama_tokenizer.spans(ids[:-1], "x  y")[[0, -1], [0, 1]].tolist() == [0, 4]


@settings(deadline=None)
@given(output=OUTPUTS)
def test_the_spans_of_the_tokens_spell_the_output(any_tokenizer, output):
    ids = any_tokenizer.encode_continuation(output)
    spans = any_tokenizer.spans(ids, output)
    assert (spans[:, 0] < spans[:, 1]).all()
    # Without repetitions (the bytes of one character) the spans follow each other from the first character to the last.
    different = [span for span, _ in itertools.groupby(spans.tolist())]
    assert [begin for begin, _ in different] == [0, *(end for _, end in different[:-1])]
    assert "".join(output[begin:end] for begin, end in different) == output
    prompt_ids = any_tokenizer.encode("f(")
    # Decoded after what precedes it, a token is the text of its span (SentencePiece takes U+2581 for a space).
    counts = collections.Counter(map(tuple, spans.tolist()))
    for i, span in enumerate(map(tuple, spans.tolist())):
        if counts[span] == 1:
            decoded = any_tokenizer.decode_continuation([*prompt_ids, *ids[:i]], ids[i : i + 1])
            assert decoded == output[slice(*span)].replace("\u2581", " ")


@settings(deadline=None)
@given(output=OUTPUTS, weight=st.floats(0, 1e6, width=32))
def test_one_weight_for_all_characters_is_that_of_every_token_but_eos(any_tokenizer, output, weight):
    _, weights = response_of(output, ((0, len(output), weight),), any_tokenizer)
    np.testing.assert_allclose(weights[:-1], weight, rtol=1e-6)
    assert weights[-1] == 1


@settings(deadline=None)
@given(output=OUTPUTS, data=st.data())
def test_a_token_has_the_mean_over_its_characters(any_tokenizer, output, data):
    cuts = data.draw(st.lists(st.integers(0, len(output)), unique=True).map(sorted))
    spans = tuple(
        (begin, end, data.draw(st.floats(0, 10))) for begin, end in itertools.pairwise(cuts) if data.draw(st.booleans())
    )
    of_character = np.ones(len(output))
    for begin, end, weight in spans:
        of_character[begin:end] = weight
    ids, weights = response_of(output, spans, any_tokenizer)
    covered = any_tokenizer.spans(ids[:-1], output)
    expected = [of_character[begin:end].mean() for begin, end in covered]
    np.testing.assert_allclose(weights, [*expected, 1], rtol=1e-5, atol=1e-6)


def test_a_tokenizer_that_does_not_spell_the_output_is_refused(train_tokenizer):
    tokenizer = load_tokenizer(train_tokenizer(byte_fallback=False, vocab_size=120), for_code=False)
    with pytest.raises(DataError, match="the tokens do not spell '\u4e16', so weights of its characters cannot be"):
        response_of("\u4e16", ((0, 1, 2.0),), tokenizer)
    # Without weights it does not matter.
    assert response_of("\u4e16", (), tokenizer)[1][-1] == 1


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz"])
def file(request, tmp_path, fields):
    """Three records: without the field, with spans, with null."""
    rows = [fields, {**fields, "weights": [[4, 10, 0.0], [11, 16, 2.5]]}, {**fields, "weights": None}]
    lines = "".join(json.dumps({**row, "task_id": f"a{i}"}) + "\n" for i, row in enumerate(rows)).encode()
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_from_the_file_to_the_batch(file, tokenizer, start):
    examples = load_examples(file, tokenizer, template="raw", max_length=100)
    assert examples.has_weights
    single = [encode_record(record, tokenizer, "raw", 100) for record in examples.records()]
    batch = next(evaluation_batches(examples, batch_size=4, buckets=(64,)))
    assert batch["weights"].dtype == np.float32
    for row, example in enumerate(single):
        expected = example.target_mask.astype(np.float32) if example.weights is None else example.weights
        np.testing.assert_array_equal(batch["weights"][row, : len(expected)], expected)
    assert {0, 1, 2.5} <= set(batch["weights"][1].tolist())
    assert not batch["weights"][~batch["target_mask"]].any()
    in_memory = next(evaluation_batches(from_examples(single), batch_size=4, buckets=(64,)))
    np.testing.assert_array_equal(in_memory["weights"], batch["weights"])
    packed = start(examples, batch_size=1, buckets=(64,), pack=True)
    assert next(packed)["weights"].sum() == batch["weights"].sum()


def test_data_without_weights_have_no_column(write_jsonl, fields, tokenizer):
    path = write_jsonl(fields)
    examples = load_examples(path, tokenizer, template="raw", max_length=100)
    assert not examples.has_weights
    assert "weights" not in next(evaluation_batches(examples, batch_size=1, buckets=(64,)))
    assert "response_weights" not in open_store(path, tokenizer, "raw").columns


def test_weights_are_part_of_the_digest(write_jsonl, fields, tokenizer):
    digests = set()
    for weights in (None, [], [[0, 2, 2.0]], [[0, 2, 2.5]]):
        path = write_jsonl({**fields, "weights": weights})
        examples = load_examples(path, tokenizer, template="raw", max_length=100)
        digests |= {
            examples.digest,
            from_examples([encode_record(next(examples.records()), tokenizer, "raw", 99)]).digest,
        }
    assert len(digests) == 8


def test_a_flipped_bit_of_a_weight_is_found(file, tokenizer):
    store = open_store(file, tokenizer, "raw")
    expected = [store.read(row)[2].tolist() for row in range(3)]
    column = store.directory / "response_weights.npy"
    content = bytearray(column.read_bytes())
    content[-3] ^= 4
    column.write_bytes(content)
    store = open_store(file, tokenizer, "raw")
    with pytest.raises(DataError, match=r"the stored tokens of .*:3 are damaged; the next start makes them again"):
        store.read(2)
    store = open_store(file, tokenizer, "raw")
    assert [store.read(row)[2].tolist() for row in range(3)] == expected
