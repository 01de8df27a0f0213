"""A small tokenizer trained on the spot, and ways to write records."""

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from wmtp_jax.data import Example, Examples, Record, Tokenizer, from_examples, load_tokenizer, make_batches

CODE = [
    "def add(a, b):\n    return a + b\n",
    "def longest(words):\n    best = ''\n    for word in words:\n        best = max(best, word, key=len)\n",
    "def count(xs):\n\ttotal = 0\n\tfor x in xs:\n\t\ttotal += 1\n\treturn total\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def top(self):\n        return None\n",
]


@pytest.fixture(scope="session")
def train_tokenizer(tmp_path_factory) -> Callable[..., Path]:
    """Trains a SentencePiece model that keeps whitespace, unless told otherwise."""

    def train(lines=CODE * 8, **options) -> Path:
        settings = {
            "vocab_size": 340,
            "model_type": "bpe",
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "allow_whitespace_only_pieces": True,
            "minloglevel": 2,
            **options,
        }
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
        with path.open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, **settings)
        return path

    return train


@pytest.fixture(scope="session")
def tokenizer(train_tokenizer) -> Tokenizer:
    """Our own kind of tokenizer: no dummy prefix."""
    return load_tokenizer(train_tokenizer())


@pytest.fixture(scope="session")
def llama_tokenizer(train_tokenizer) -> Tokenizer:
    """Llama-2's kind of tokenizer: a space is put before all that it encodes."""
    return load_tokenizer(train_tokenizer(add_dummy_prefix=True))


@pytest.fixture(scope="session", params=["tokenizer", "llama_tokenizer"])
def either(request) -> Tokenizer:
    """A tokenizer of each kind in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def mistral_tokenizer() -> Tokenizer:
    """A real tokenizer of Llama-2's kind, with 32,000 pieces."""
    package = importlib.util.find_spec("mistral_common")
    if package is None:
        pytest.skip("needs mistral-common, whose wheel has a tokenizer")
    return load_tokenizer(Path(package.origin).parent / "data" / "tokenizer.model.v1")


@pytest.fixture
def fields() -> dict:
    """The fields of a good record."""
    return {
        "instruction": "def add(a, b):\n",
        "input": "",
        "output": "    return a + b\n",
        "task_id": "add_correct_0",
        "is_correct": True,
        "metadata": {"source": "test", "clean": True},
    }


@pytest.fixture
def record(fields) -> Record:
    """A good record."""
    return Record(**fields)


@pytest.fixture
def write_jsonl(tmp_path):
    """Writes rows (dicts, or bytes as they are) into a new JSONL file."""

    def write(*rows: dict | bytes, name: str = "records.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(
            b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        )
        return path

    return write


@pytest.fixture
def start():
    """Starts streams of batches, and stops their threads in the end."""
    started = []

    def make(examples, **changes):
        settings = {"batch_size": 8, "seed": 5, "buckets": (32, 64, 96), **changes}
        started.append(make_batches(examples, **settings))
        return started[-1]

    yield make
    for batches in started:
        batches.close()


@pytest.fixture(scope="session")
def numbered() -> Callable[..., Examples]:
    """Makes data sets in which every token says to which example it belongs: example i consists of i + 1."""

    def make(lengths, prompt_lengths=None) -> Examples:
        prompt_lengths = prompt_lengths or [1] * len(lengths)
        return from_examples(
            [
                Example(np.full(n, i + 1, np.int32), np.arange(n) >= prompt, [True, False, None][i % 3], f"task_{i}")
                for i, (n, prompt) in enumerate(zip(lengths, prompt_lengths, strict=True))
            ]
        )

    return make


@pytest.fixture(scope="session")
def solutions() -> Callable[..., Examples]:
    """Makes labelled solutions: per problem the lengths of the correct and of the incorrect ones, in this order."""

    def make(problems, difficulties=None) -> Examples:
        rows = []
        for p, (correct, incorrect) in enumerate(problems):
            for label, lengths in ((True, correct), (False, incorrect)):
                for i, n in enumerate(lengths):
                    name = f"p{p}_{'correct' if label else 'incorrect'}_{i}"
                    tokens = np.full(n, len(rows) + 1, np.int32)
                    rows.append(
                        Example(tokens, np.arange(n) >= 1, label, name, difficulties[p] if difficulties else "")
                    )
        return from_examples(rows)

    return make


@pytest.fixture(scope="session")
def with_scores() -> Callable[[Examples], Examples]:
    """Adds a score to every token: example i + a hundredth of the position, from 1, within it."""

    def add(examples: Examples) -> Examples:
        of_example = np.repeat(np.arange(len(examples)), examples.lengths)
        position = np.arange(examples.offsets[-1]) - examples.offsets[of_example] + 1
        return dataclasses.replace(
            examples, token_scores={"reference_nll": (of_example + position / 100).astype(np.float32)}
        )

    return add
