"""Tokenizes a file of records into columns: blocks of lines in worker processes, columns in the order of the file."""

import collections
import contextlib
import hashlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.encoding import response_weights
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import parse_record, task_of
from wmtp_jax.data.templates import render
from wmtp_jax.data.tokenizer import Tokenizer
from wmtp_jax.jsonl import read_lines
from wmtp_jax.progress import Progress

UNKNOWN = -1
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
_HEADER_BYTES = 128


# Columns of a block of lines; names that its numbers of prompts, problems and difficulties stand for; any weights?
_Block = tuple[dict[str, np.ndarray], dict[str, list[Any]], bool]


def npy_header(dtype: str, length: int) -> bytes:
    """The 128 bytes before the data of a one-dimensional .npy file."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({length},), }}"
    size = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", size) + text.ljust(size - 1).encode() + b"\n"


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
    named = ("prompt", "problem", "difficulty")
    numbers = {name: collections.defaultdict(itertools.count().__next__) for name in named}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(_ColumnFile(directory / f"{name}.npy", dtypes[name])) for name in dtypes}
        for columns, names, has_weights in _encoded_blocks(encode):
            if has_weights and not encode.with_weights:
                return None
            if len(numbers["prompt"]) > _REMEMBERED_PROMPTS:
                numbers["prompt"].clear()
            of_block = {name: np.array([known[value] for value in names[name]]) for name, known in numbers.items()}
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
        self._file.write(bytes(_HEADER_BYTES))

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


class _Encoder:
    """Encodes blocks of lines; goes to worker processes whole."""

    def __init__(self, path: Path, tokenizer: Tokenizer, template: str, *, with_weights: bool):
        self.path, self.tokenizer, self.template, self.with_weights = path, tokenizer, template, with_weights

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
        names = {"prompt": digests, "problem": problems, "difficulty": difficulties}
        return columns, names, any(record.weights is not None for record in records)


def _distinct(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """The different values in the order of appearance, and the number of each value among them."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), found


def _encoded_blocks(encode: _Encoder) -> Iterator[_Block]:
    """All blocks of the file in order; of a large file, encoded by all cores."""
    path = encode.path
    if path.stat().st_size < _PARALLEL_BYTES:
        for first, lines in _blocks(path):
            yield encode(first, lines)
        return
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ProcessPoolExecutor(
        # Not forked: the process may have threads (jax has), which a fork would leave in any state.
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(encode,),
    )
    waiting: collections.deque[tuple[int, Future[_Block]]] = collections.deque()
    # A compressed file does not say how long its text is; texts of programs shrink to about a fifth.
    size = path.stat().st_size * (5 if path.name.endswith(".gz") else 1)
    try:
        with Progress(size / 1e6, f"tokenize {path.name}", unit="MB") as progress:
            for block in itertools.chain(_blocks(path), [None] * 2 * workers):
                if block is not None:
                    waiting.append((sum(map(len, block[1])), pool.submit(_encode_in_worker, *block)))
                if waiting and (block is None or len(waiting) > 2 * workers):
                    done, future = waiting.popleft()
                    yield future.result()
                    progress.advance(done / 1e6)
    except BrokenProcessPool as error:
        raise DataError(
            f"{path}: a worker that tokenizes it was stopped, perhaps for want of memory; make room and start again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines) of chunks of about the given number of bytes."""
    lines, size, first = [], 0, 1
    for line in read_lines(path):
        lines.append(line)
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield first, lines
            first, lines, size = first + len(lines), [], 0
    if lines:
        yield first, lines


_encode_in_this_worker: _Encoder


def _start_worker(encode: _Encoder) -> None:
    global _encode_in_this_worker
    _encode_in_this_worker = encode
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops its workers

    def end_with_parent() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _encode_in_worker(first: int, lines: list[bytes]) -> _Block:
    return _encode_in_this_worker(first, lines)
