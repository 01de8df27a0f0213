"""Tokenizes a file of records into columns: blocks of lines, of a large file in worker processes."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.encoding import response_weights
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import UNKNOWN, parse_record, task_of
from wmtp_jax.data.templates import render
from wmtp_jax.data.tokenizer import Tokenizer
from wmtp_jax.data.workers import map_in_workers
from wmtp_jax.jsonl import read_lines
from wmtp_jax.progress import Progress

TOKEN_COLUMNS = ("prompt_ids", "response_ids", "response_weights")
_DTYPES = {
    "prompt": "<i4",
    "response_length": "<i4",
    "response_crc": "<u4",
    "is_correct": "|i1",
    "clean": "|i1",
    "problem": "<i4",
    "difficulty": "<i4",
    "line_length": "<i4",
    "line_crc": "<u4",
    "prompt_length": "<i4",
    "prompt_crc": "<u4",
    "response_weights": "<f4",
}
_BLOCK_BYTES = 2 << 20
_PARALLEL_BYTES = 8 << 20  # smaller files are tokenized before worker processes would have started
_REMEMBERED_PROMPTS = 1 << 18  # the solutions of a problem are near each other, so memory stays flat

# Columns of a block of lines; the texts that its numbers of prompts, problems and difficulties stand for; any weights?
_Block = tuple[dict[str, np.ndarray], dict[str, list[Any]], bool]


def npy_header(dtype: str, length: int) -> bytes:
    """What precedes the data of a one-dimensional .npy file; of the same size for every length."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": (length,)})
    return header.getvalue()


def build_columns(
    directory: Path, path: Path, tokenizer: Tokenizer, template: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Writes the columns of a token store, each as NAME.npy.

    Returns:
        Of each column its dtype, length and the SHA-256 of its data; the names of the difficulties.

    Raises:
        UserError: The file is empty, or a line of it is no record.
    """
    # Few files have weights; one that has is begun again with a column for them.
    found = _build(directory, _Encoder(path, tokenizer, template, with_weights=False))
    return found or _build(directory, _Encoder(path, tokenizer, template, with_weights=True))


def _build(directory: Path, encode: "_Encoder") -> tuple[dict[str, dict[str, Any]], list[str]] | None:
    """As `build_columns`, or None at the first weights without a column for them."""
    dtypes = _DTYPES | dict.fromkeys(("prompt_ids", "response_ids"), encode.tokenizer.dtype.str)
    if not encode.with_weights:
        del dtypes["response_weights"]
    numbers = {
        name: collections.defaultdict(itertools.count().__next__) for name in ("prompt", "problem", "difficulty")
    }
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(_ColumnFile(directory / f"{name}.npy", dtypes[name])) for name in dtypes}
        for columns, texts, has_weights in _encoded_blocks(encode):
            if has_weights and not encode.with_weights:
                return None
            if len(numbers["prompt"]) > _REMEMBERED_PROMPTS:
                numbers["prompt"].clear()
            of_block = {name: np.array([known[text] for text in texts[name]]) for name, known in numbers.items()}
            columns |= {name: of_block[name][columns[name]] for name in numbers}
            new = of_block["prompt"] >= files["prompt_length"].length
            columns["prompt_ids"] = columns["prompt_ids"][np.repeat(new, columns["prompt_length"])]
            columns |= {name: columns[name][new] for name in ("prompt_length", "prompt_crc")}
            for name, file in files.items():
                file.append(columns[name])
        if not files["prompt"].length:
            raise DataError(f"{encode.path}: the file is empty; expected one JSON object per line.")
        return {name: file.finish() for name, file in files.items()}, list(numbers["difficulty"])


class _ColumnFile:
    """A column on its way to disk; `length` values so far."""

    def __init__(self, path: Path, dtype: str):
        self._dtype, self._sha256, self.length = dtype, hashlib.sha256(), 0
        self._file = open(path, "wb")  # noqa: SIM115 (see __exit__)
        self._file.write(npy_header(dtype, 0))

    def append(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, self._dtype)
        self._file.write(data)
        self._sha256.update(data)
        self.length += len(data)

    def finish(self) -> dict[str, Any]:
        self._file.seek(0)
        self._file.write(npy_header(self._dtype, self.length))
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"dtype": self._dtype, "length": self.length, "sha256": self._sha256.hexdigest()}

    def __enter__(self) -> "_ColumnFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


@dataclasses.dataclass(frozen=True)
class _Encoder:
    """Encodes blocks of lines; goes to worker processes whole."""

    path: Path
    tokenizer: Tokenizer
    template: str
    with_weights: bool

    def __call__(self, first: int, lines: list[bytes]) -> _Block:
        """Encodes lines, of which the first has the number `first`, counted from 1."""
        tokenizer = self.tokenizer
        records = [parse_record(line, f"{self.path}:{first + i}") for i, line in enumerate(lines)]
        prompts, prompt = _distinct(render(record, self.template) for record in records)
        problems, problem = _distinct(task_of(record.task_id) for record in records)
        difficulties, difficulty = _distinct(record.difficulty for record in records)
        bos, eos = (np.array([i], tokenizer.dtype) for i in (tokenizer.bos_id, tokenizer.eos_id))
        prompt_ids = [np.concatenate([bos, ids]) for ids in tokenizer.encode_many(prompts)]
        outputs = tokenizer.encode_many([record.output for record in records], continuation=True)
        response_ids = [np.concatenate([ids, eos]) for ids in outputs]
        checksums = list(map(zlib.crc32, response_ids))
        tokens = {"prompt_ids": prompt_ids, "response_ids": response_ids}
        if self.with_weights:
            weights = map(response_weights, records, outputs, itertools.repeat(tokenizer))
            tokens["response_weights"] = list(weights)
            checksums = list(map(zlib.crc32, tokens["response_weights"], checksums))
        clean = [record.metadata.get("clean") for record in records]
        numbers = {
            "prompt": prompt,
            "response_length": list(map(len, response_ids)),
            "response_crc": checksums,
            "is_correct": [UNKNOWN if record.is_correct is None else record.is_correct for record in records],
            "clean": [value if isinstance(value, bool) else UNKNOWN for value in clean],
            "problem": problem,
            "difficulty": difficulty,
            "line_length": list(map(len, lines)),
            "line_crc": list(map(zlib.crc32, lines)),
            "prompt_length": list(map(len, prompt_ids)),
            "prompt_crc": list(map(zlib.crc32, prompt_ids)),
        }
        columns = {name: np.array(values, _DTYPES[name]) for name, values in numbers.items()}
        columns |= {name: np.concatenate(arrays) for name, arrays in tokens.items()}
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in prompts]
        texts = {"prompt": digests, "problem": problems, "difficulty": difficulties}
        return columns, texts, any(record.weights is not None for record in records)


def _distinct(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """The different values in the order of appearance, and the number of each value among them."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), found


def _encoded_blocks(encode: _Encoder) -> Iterator[_Block]:
    """All blocks of the file in order; of a large file, encoded by all cores."""
    path = encode.path
    size = path.stat().st_size
    if size < _PARALLEL_BYTES:
        yield from itertools.starmap(encode, _blocks(path))
        return
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    killed = DataError(
        f"{path}: a process that tokenized it was killed, perhaps for want of memory; close other programs or allow "
        "fewer cores (taskset -c 0 COMMAND), and start again."
    )
    # A compressed file does not say how long its text is; texts of programs shrink to about a fifth.
    total = size * (5 if path.name.endswith(".gz") else 1)
    blocks = map_in_workers(encode, _blocks(path), workers, when_killed=killed)
    with Progress(total / 1e6, f"tokenize {path.name}", unit="MB") as progress, contextlib.closing(blocks):
        for block in blocks:
            progress.advance(int(block[0]["line_length"].sum()) / 1e6)
            yield block


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines) of about 2 MB each."""
    lines, size, first = [], 0, 1
    for line in read_lines(path):
        lines.append(line)
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield first, lines
            first, lines, size = first + len(lines), [], 0
    if lines:
        yield first, lines
