"""What is taken of the files that a user names, and the sentence about a row that is not what it should be."""

import json
import random

import pytest

from wmtp_jax.data import load_tokenizer
from wmtp_jax.errors import UserError
from wmtp_jax.storage.assets import StorageError
from wmtp_jax.storage.datasets import build
from wmtp_jax.storage.datasets.contamination import benchmark_texts
from wmtp_jax.storage.datasets.recipes import RECIPES, Settings
from wmtp_jax.storage.datasets.records import ChunkWorker
from wmtp_jax.storage.datasets.sources import Chunk, find_files, make_chunks, read_chunk

PROBLEM = {
    "name": "1_A. Sum",
    "description": "Print the sum.",
    "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "solutions": {"language": [3], "solution": ["print(3)\n"]},
    "incorrect_solutions": {"language": [], "solution": []},
}
TASK = {"task_id": 601, "text": "Add.", "code": "def add(a, b): return a + b", "test_list": ["assert add(1, 2) == 3"]}


@pytest.fixture(scope="module")
def tokenizer(root):
    return load_tokenizer(root / "storage/models_v2/micro-mtp")


@pytest.fixture
def process(tokenizer, tmp_path):
    """The records of one row of a data set."""

    def run(name, row, **settings):
        split = {"codecontests": "train", "mbpp": ""}[name]
        path = tmp_path / "train.jsonl"
        path.write_text(json.dumps(row) + "\n")
        return ChunkWorker(name, Settings(tokenizer, **settings), tmp_path, None, tmp_path)(0, Chunk(path, split, 0, 1))

    return run


def test_of_a_copy_of_the_repository_one_version_is_taken(tmp_path):
    for name in ("full/train-0.parquet", "sanitized/train-0.parquet", "more/full/train-0.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    assert find_files([tmp_path], RECIPES["mbpp"].pattern) == [tmp_path / "full/train-0.parquet"]
    assert find_files([tmp_path / "sanitized"], RECIPES["mbpp"].pattern) == [tmp_path / "sanitized/train-0.parquet"]
    assert len(find_files([tmp_path], RECIPES["codecontests"].pattern)) == 3


@pytest.mark.parametrize("name", ["codecontests", "mbpp"])
def test_the_rows_that_are_damaged_below_are_whole(process, name):
    (part,) = process(name, PROBLEM if name == "codecontests" else TASK).values()
    assert len(part.problems) == 1


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("codecontests", PROBLEM | {"solutions": {"language": [3], "solution": [None]}}),
        ("codecontests", PROBLEM | {"solutions": [1]}),
        ("codecontests", PROBLEM | {"description": "a lone surrogate: \ud800"}),
        ("codecontests", ["no object"]),
        ("mbpp", TASK | {"test_list": [1]}),
        ("mbpp", TASK | {"test_list": "assert add(1, 2) == 3"}),
        ("mbpp", TASK | {"test_imports": [1]}),
    ],
)
def test_a_row_of_another_form_is_named(process, name, row):
    with pytest.raises(UserError, match=r"train\.jsonl: byte 0: [^\n]*expected") as caught:
        process(name, row)
    assert "\n" not in str(caught.value)


def test_no_record_left_says_why(tokenizer, tmp_path):
    path = tmp_path / "mbpp.jsonl"
    path.write_text(json.dumps(TASK) + "\n")
    settings = Settings(tokenizer, max_tokens=3)
    with pytest.raises(StorageError, match="no record is left of 1 solutions; left out were 1 over_length;"):
        build.build("mbpp", [path], settings, tmp_path / "mbpp", workers=1, origin="here")
    assert list(tmp_path.iterdir()) == [path]


def test_the_time_limit_is_a_setting_of_the_reexecution_alone(tokenizer):
    settings = lambda **given: Settings(tokenizer, **given).as_json()
    assert settings(timeout_s=1.0) == settings(timeout_s=2.0)
    assert settings(timeout_s=1.0, reexecute=True) != settings(timeout_s=2.0, reexecute=True)


def test_benchmarks_are_read_from_every_kind_of_file(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"prompt": "one", "text": "longer"}\n')
    assert list(benchmark_texts(lines)) == ["longer"]
    for line in ("[1]", '{"answer": "x"}'):
        lines.write_text(line + "\n")
        with pytest.raises(UserError, match=r"a\.jsonl: byte 0: .*; expected"):
            list(benchmark_texts(lines))


def test_benchmarks_in_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra 'datasets'")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"answer": [1, 2], "description": ["one", "two"]}), path)
    assert list(benchmark_texts(path)) == ["one", "two"]
    parquet.write_table(pyarrow.table({"answer": [1, 2]}), path)
    with pytest.raises(StorageError, match=r"a\.parquet: row group 0, row 1: has no text; expected it in one of"):
        list(benchmark_texts(path))


def test_flipped_bits_of_parquet_are_one_sentence(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra 'datasets'")
    parquet = pytest.importorskip("pyarrow.parquet")
    recipe, path, rng, refused = RECIPES["mbpp"], tmp_path / "a.parquet", random.Random(0), []
    parquet.write_table(pyarrow.Table.from_pylist([TASK] * 20), path)
    content = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            for chunk in make_chunks([path], recipe):
                list(read_chunk(chunk, recipe, None))
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in refused)
