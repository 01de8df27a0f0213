"""A file that stays on disk gives the examples and batches of one in memory; no changed byte gets into a batch."""

import gzip
import itertools
import json
import os
import shutil

import numpy as np
import pytest

from wmtp_jax.data import DataError, Sampling, evaluation_batches, load_examples, make_batches
from wmtp_jax.data.index import identity_of, open_index

RNG = np.random.default_rng(4)
LABELS = {"correct": True, "incorrect": False}
COLUMNS = ("offsets", "prompt_lengths", "is_correct", "problems", "difficulty")


def record(problem, i, label):
    return {
        "instruction": f"def f{problem}(x):\n    # ä\u2028 {'a' * (problem % 7)}\n",
        "input": "\n" if problem % 3 == 0 else "",
        "output": "    return x\n" * int(RNG.integers(1, 9)),
        "task_id": f"{problem}_A. B_{label}_{i}",
        "is_correct": LABELS[label],
        "metadata": {"difficulty": [None, "hard", 7, "easy"][problem % 4], "clean": i % 2 == 0},
    }


ROWS = [record(p, i, label) for p in range(20) for label in LABELS for i in range(1 + p % 4)]
ROWS = [ROWS[i] for i in RNG.permutation(len(ROWS))]
LINES = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(ROWS)).encode()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    return tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"


OPTIONS = [
    {"template": "raw", "max_length": 400, "policy_samples": "all"},
    {"template": "alpaca", "max_length": 400},
    {"template": "raw", "max_length": 60, "policy_samples": "all", "max_per_problem": 2},
    {"template": "raw", "max_length": 70, "max_per_problem": 1, "clean_only": True},
]


@pytest.mark.parametrize("kind", ["tokenizer", "llama_tokenizer"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_on_disk_as_in_memory(files, request, kind, options):
    stored, memory = (load_examples(path, request.getfixturevalue(kind), **options) for path in files)
    assert stored.counts == memory.counts
    assert tuple(stored.task_ids) == memory.task_ids
    assert stored.difficulty_names == memory.difficulty_names
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(stored, name), getattr(memory, name), err_msg=name, strict=True)
    for first, last in itertools.pairwise(memory.offsets):
        np.testing.assert_array_equal(stored.tokens[first:last], memory.tokens[first:last], strict=True)


@pytest.mark.parametrize(
    "sampling", [None, Sampling(pairs=True), Sampling(correct_ratio=0.5, difficulty_weights={"hard": 2.0})]
)
def test_the_same_batches_and_they_go_on_where_they_stopped(files, tokenizer, sampling):
    stored, memory = (load_examples(path, tokenizer, **OPTIONS[0]) for path in files)
    settings = {"batch_size": 4, "seed": 1, "buckets": (64, 128, 400), "sampling": sampling}
    one, other, resumed = (make_batches(examples, **settings) for examples in (stored, memory, stored))
    for step in range(30):
        left, right = next(one), next(other)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)
        if step == 20:
            resumed.set_state(json.loads(json.dumps(one.get_state())))
        if step > 20:
            np.testing.assert_array_equal(next(resumed)["tokens"], left["tokens"])
    for batches in (one, other, resumed):
        batches.close()
    settings = {"batch_size": 4, "buckets": (64, 128, 400)}
    for left, right in zip(evaluation_batches(stored, **settings), evaluation_batches(memory, **settings), strict=True):
        np.testing.assert_array_equal(left["tokens"], right["tokens"], strict=True)


def test_the_digest_tells_file_and_filters(files, tokenizer, llama_tokenizer):
    options = OPTIONS[0]
    digests = [load_examples(files[0], tokenizer, **options).digest for _ in range(2)]
    assert digests[0] == digests[1]
    digests += [
        load_examples(files[0], llama_tokenizer, **options).digest,
        load_examples(files[0], tokenizer, **options | {"max_length": 50}).digest,
    ]
    files[0].write_bytes(LINES.replace(b"return x", b"return y", 1))
    digests.append(load_examples(files[0], tokenizer, **options).digest)
    assert len(set(digests)) == 4


def test_an_index_is_used_again_and_a_moved_file_is_known(files, tokenizer, cache_directory, tmp_path):
    load_examples(files[0], tokenizer, **OPTIONS[0])
    before = {path: path.stat().st_mtime_ns for path in (cache_directory / "wmtp_jax").rglob("*.*")}
    assert {path.suffix for path in before} == {".index", ".lengths"}
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(files[0], tmp_path / "elsewhere" / "a.jsonl")
    load_examples(moved, tokenizer, **OPTIONS[0])
    assert {path: path.stat().st_mtime_ns for path in (cache_directory / "wmtp_jax").rglob("*.*")} == before


def test_a_file_that_was_edited_in_place_is_indexed_anew(files):
    """The same size, and no change in the blocks that are sampled of it."""
    content = LINES * (2**20 // len(LINES))
    files[0].write_bytes(content)
    before, sampled = open_index(files[0]), identity_of(files[0])
    place = content.index(b"return x", 6000)
    files[0].write_bytes(content[:place] + b"return y" + content[place + 8 :])
    os.utime(files[0], ns=(0, files[0].stat().st_mtime_ns + 1))
    assert identity_of(files[0]) == sampled
    after = open_index(files[0])
    row = content[:place].count(b"\n")
    assert "return y" in after.record(row).output
    with pytest.raises(DataError, match=r"or delete a\.jsonl\.index beside it, if there is one, and start again"):
        before.record(row)


def test_without_a_cache_directory(files, tokenizer, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(files[0]))
    assert len(load_examples(files[0], tokenizer, **OPTIONS[0])) == len(ROWS)


def test_a_record_that_changed_meanwhile_is_refused(files, tokenizer):
    examples = load_examples(files[0], tokenizer, **OPTIONS[0])
    row = LINES[: LINES.index(b"return x")].count(b"\n")
    files[0].write_bytes(LINES.replace(b"return x", b"return y", 1))
    with pytest.raises(DataError, match=rf"a\.jsonl:{row + 1}: the line is not the one that was there"):
        examples.tokens[examples.offsets[row] : examples.offsets[row + 1]]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_ends(files, end):
    lines = LINES.rstrip(b"\n").replace(b"\n", b"\r\n" if b"\r" in end else b"\n") + end
    files[0].write_bytes(lines)
    index = open_index(files[0])
    assert [index.record(row).task_id for row in range(len(index))] == [row["task_id"] for row in ROWS]


GOOD = json.dumps(ROWS[0]).encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not valid JSON"),
        (b"", "the line is empty"),
        (b"[1]", "the line holds an array"),
        (b"\xff", "not valid UTF-8"),
        (GOOD + b" x", "not valid JSON"),
        (GOOD.replace(b'"output"', b'"code"'), "field 'output' is missing"),
        (GOOD.replace(b'"input"', b'"more": 1, "input"'), "unknown field 'more'"),
        (GOOD.replace(b'"is_correct": true', b'"is_correct": 1').replace(b"false", b"0"), "the number"),
        (GOOD.replace(b", ", b",\n"), "not valid JSON"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_named(files, line, said):
    files[0].write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:2: .*{said}"):
        open_index(files[0])


def test_lines_longer_than_a_block(files):
    long = ROWS[0] | {"output": "x" * 300_000}
    files[0].write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0], long, ROWS[1])))
    index = open_index(files[0])
    assert [len(index.record(row).output) for row in range(3)] == [
        len(ROWS[0]["output"]),
        300_000,
        len(ROWS[1]["output"]),
    ]


def test_a_damaged_index_is_said(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_index(files[0])
    (cached,) = (tmp_path / "cache").rglob("*.index")
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(DataError, match="not a file of columns, or a damaged one; delete it"):
        open_index(files[0])
