"""How many tokens each record has, counted once for a tokenizer and a template.

A set-up leaves the counts of its own tokenizer beside the file (NAME.jsonl.lengths, for every template); others are
counted at the first use, by all cores, and kept in the cache directory.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.columns import map_columns, write_columns
from wmtp_jax.data.index import Index, cache_file
from wmtp_jax.data.records import Record
from wmtp_jax.data.templates import render
from wmtp_jax.data.tokenizer import Tokenizer

RESPONSE = "response_tokens"
_RECORDS_AT_ONCE = 1024
_FORM = 1
_PROBES = (Record("a", "b", "c", "d", None, {}), Record("a", "", "c", "d", None, {}))


def token_lengths(index: Index, tokenizer: Tokenizer, template: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of every record's prompt and response.

    Args:
        index: Of the file.
        tokenizer: The model's.
        template: Name of the prompt template.

    Returns:
        int32 [n] tokens of the prompt, BOS included; int32 [n] tokens of the response, EOS included.

    Raises:
        DataError: A line is not a valid record.
    """
    prompt = prompt_column(template)
    wanted = lengths_metadata(tokenizer, [template]) | {"records": index.digest}
    cached = cache_file(index.path, f"{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}.lengths")
    for candidate in (lengths_path(index.path), cached):
        if candidate.is_file():
            columns = map_columns(candidate)
            if prompt in columns and all(columns.metadata.get(name) == value for name, value in wanted.items()):
                found = np.array(columns[prompt]), np.array(columns[RESPONSE])
                columns.release()
                return found
    columns = _count(index, tokenizer, template)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_columns(cached, [columns], wanted)
    except OSError:
        pass  # counted anew by every start, where nothing can be kept
    return columns[prompt], columns[RESPONSE]


def lengths_path(path: Path) -> Path:
    """Where a set-up leaves the token counts of a JSONL file."""
    return path.with_name(f"{path.name}.lengths")


def prompt_column(template: str) -> str:
    """Name of the column of a template's prompts."""
    return f"prompt_tokens_{template}"


def lengths_metadata(tokenizer: Tokenizer, templates: Iterable[str]) -> dict[str, Any]:
    """What token counts depend on, but for the records.

    Args:
        tokenizer: That made the tokens.
        templates: The columns' templates; their wording is part of it.

    Returns:
        The metadata of the columns, to which `records`, the digest of the file's index, is added.
    """
    wording = {name: hashlib.sha256("\0".join(render(r, name) for r in _PROBES).encode()) for name in templates}
    return {
        "form": _FORM,
        "tokenizer": tokenizer.digest,
        **{f"template_{name}": digest.hexdigest() for name, digest in wording.items()},
    }


def _count(index: Index, tokenizer: Tokenizer, template: str) -> dict[str, np.ndarray]:
    prompts, responses = np.zeros(len(index), np.int32), np.zeros(len(index), np.int32)
    for begin in range(0, len(index), _RECORDS_AT_ONCE):
        rows = slice(begin, begin + _RECORDS_AT_ONCE)
        records = [index.record(row) for row in range(begin, min(rows.stop, len(index)))]
        texts = [render(record, template) for record in records]
        # The solutions of one problem stand together and share its prompt.
        different = list(dict.fromkeys(texts))
        length_of = dict(zip(different, tokenizer.lengths(different), strict=True))
        prompts[rows] = [1 + length_of[text] for text in texts]
        responses[rows] = tokenizer.lengths([record.output for record in records], continuation=True)
        responses[rows] += 1
    return {prompt_column(template): prompts, RESPONSE: responses}
