"""Errors that the person at the keyboard can correct, and how values are shown in them."""

from typing import Any


class UserError(Exception):
    """What was wrong, where, what was expected and what to do, in one sentence.

    Each subsystem derives its exception from it. Entry points print the sentence and exit with code 2; anything else is
    a defect of ours and keeps its traceback.
    """


class FileError(UserError):
    """A file or directory that cannot be read, written, locked or parsed."""


def shown(value: Any, limit: int = 80) -> str:
    """`repr(value)` for a message, cut to `limit` characters."""
    if isinstance(value, str | bytes):
        text = repr(value[: limit + 1])
    else:
        try:
            text = repr(value)
        except (ValueError, RecursionError):  # an integer of thousands of digits, a list of thousands of levels
            text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
