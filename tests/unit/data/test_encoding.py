"""BOS, prompt, response, EOS: once each, in this order, and only the last two are targets."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import Record, encode_prompt, encode_record, render

TEXT = st.text(alphabet="ab (x):=\n\t#é", min_size=1, max_size=30)


@settings(deadline=None)
@given(instruction=TEXT, output=TEXT, template=st.sampled_from(["raw", "alpaca"]))
def test_structure_of_every_example(either, instruction, output, template):
    record = Record(instruction, "", output, "t", None, {})
    example = encode_record(record, either, template, max_length=10_000)
    ids, targets = example.tokens, example.target_mask
    assert ids.dtype == np.int32
    assert targets.dtype == bool
    assert ids.shape == targets.shape
    assert ids[0] == either.bos_id
    assert ids[-1] == either.eos_id
    assert np.sum(ids == either.bos_id) == 1
    assert np.sum(ids == either.eos_id) == 1
    prompt_length = int(np.argmax(targets))
    assert not targets[:prompt_length].any()
    assert targets[prompt_length:].all()
    # The prompt's ids are those that generation starts from, whatever the response.
    assert ids[:prompt_length].tolist() == encode_prompt(render(record, template), either)
    assert either.decode(ids) == render(record, template) + output
    assert either.decode_continuation(ids[:prompt_length], ids[prompt_length:]) == output


def test_labels_travel_along_and_a_record_fits_whole_or_not_at_all(record, tokenizer):
    for label in (True, False, None):
        example = encode_record(dataclasses.replace(record, is_correct=label), tokenizer, "raw", 1000)
        assert example.is_correct is label
        assert example.task_id == "add_correct_0"
    length = len(example.tokens)
    assert len(encode_record(record, tokenizer, "raw", length).tokens) == length
    assert encode_record(record, tokenizer, "raw", length - 1) is None
