"""The text that stands before a response."""

import dataclasses

import pytest

from wmtp_jax.data import TEMPLATES, render


def test_raw_is_instruction_then_input(record):
    assert render(record, "raw") == "def add(a, b):\n"
    assert render(dataclasses.replace(record, input="    # hint\n"), "raw") == "def add(a, b):\n    # hint\n"


def test_alpaca_without_input(record):
    assert render(dataclasses.replace(record, instruction="Add two numbers."), "alpaca") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd two numbers.\n\n### Response:\n"
    )


def test_alpaca_with_input(record):
    assert render(dataclasses.replace(record, instruction="Add.", input="1 2"), "alpaca") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_braces_stand_as_they_are_and_the_answer_does_not_leak(record, template):
    prompt = render(dataclasses.replace(record, instruction="{input} {0} {{", input="{instruction}"), template)
    assert "{input} {0} {{" in prompt
    assert "{instruction}" in prompt
    assert record.output not in prompt
