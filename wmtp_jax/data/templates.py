"""How a record becomes the text that the model reads before its answer."""

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import Record
from wmtp_jax.errors import shown


def _raw(record: Record) -> str:
    return record.instruction + record.input


def _alpaca(record: Record) -> str:
    if record.input:
        return (
            "Below is an instruction that describes a task, paired with an input that provides further context. "
            "Write a response that appropriately completes the request.\n\n"
            f"### Instruction:\n{record.instruction}\n\n### Input:\n{record.input}\n\n### Response:\n"
        )
    return (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{record.instruction}\n\n### Response:\n"
    )


TEMPLATES = {"raw": _raw, "alpaca": _alpaca}


def render(record: Record, template: str) -> str:
    """The prompt of a record; its response follows directly.

    Args:
        record: The record; its output is not used.
        template: "raw" (instruction and input as they stand, nothing between them) or "alpaca" (the wording of
            Stanford Alpaca's data set, with or without an input section).

    Raises:
        DataError: There is no template of that name.
    """
    if template not in TEMPLATES:
        raise DataError(f"template is {shown(template)}; expected one of {', '.join(map(repr, TEMPLATES))}.")
    return TEMPLATES[template](record)
