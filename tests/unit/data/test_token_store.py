"""A file of records is tokenized once; no flipped bit and no changed line gets into a batch."""

import gzip
import json
import os
import shutil
import threading

import numpy as np
import pytest

from wmtp_jax.data import DataError, encode_record, open_store, read_records
from wmtp_jax.errors import UserError

RNG = np.random.default_rng(4)
LABELS = {"correct": True, "incorrect": False}


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
GOOD = json.dumps(ROWS[0]).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wmtp_jax" / "tokens"


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz"])
def file(request, tmp_path):
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(LINES) if path.suffix == ".gz" else LINES)
    return path


@pytest.fixture
def plain(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    return tmp_path / "a.jsonl"


def stores(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def times(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}


def contents(store):
    return [[ids.tolist() for ids in store.read(row)[:2]] for row in range(len(store))]


@pytest.mark.parametrize("template", ["raw", "alpaca"])
def test_columns_hold_what_encoding_a_record_makes(file, either, template):
    store = open_store(file, either, template)
    problems: dict[str, int] = {}
    for row, one in enumerate(read_records(file)):
        example = encode_record(one, either, template, 10_000)
        prompt, response, weights = store.read(row)
        np.testing.assert_array_equal(prompt, example.tokens[~example.target_mask])
        np.testing.assert_array_equal(response, example.tokens[example.target_mask])
        assert (prompt.dtype, response.dtype, weights) == (np.uint16, np.uint16, None)
        name = one.task_id.rsplit("_", 2)[0]
        assert store.columns["problem"][row] == problems.setdefault(name, len(problems))
        assert store.columns["is_correct"][row] == one.is_correct
        assert store.columns["clean"][row] == one.metadata["clean"]
        assert store.difficulty_names[store.columns["difficulty"][row]] == str(one.metadata["difficulty"] or "")
    assert row + 1 == len(store) == len(ROWS)
    # Each prompt is there once.
    assert len(store.columns["prompt_length"]) == len({(r["instruction"], r["input"]) for r in ROWS})
    expected = list(read_records(file))
    assert list(store.records(range(len(store)))) == expected
    assert list(store.records([2, 3, 11])) == [expected[row] for row in (2, 3, 11)]


def test_the_same_records_have_the_same_digest_compressed_or_not(plain, tokenizer, llama_tokenizer, tmp_path):
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES))
    digest = open_store(plain, tokenizer, "raw").digest
    assert open_store(tmp_path / "b.jsonl.gz", tokenizer, "raw").digest == digest
    others = {open_store(plain, llama_tokenizer, "raw").digest, open_store(plain, tokenizer, "alpaca").digest}
    plain.write_bytes(LINES.replace(b"return x", b"return y", 1))
    assert len(others | {open_store(plain, tokenizer, "raw").digest, digest}) == 4


def test_a_store_is_used_again_also_for_a_moved_file(plain, tokenizer, cache, tmp_path):
    open_store(plain, tokenizer, "raw")
    before = times(cache)
    open_store(plain, tokenizer, "raw")
    (tmp_path / "elsewhere").mkdir()
    open_store(shutil.move(plain, tmp_path / "elsewhere" / "a.jsonl"), tokenizer, "raw")
    assert times(cache) == before


def test_a_file_that_was_edited_in_place_is_tokenized_again(plain, tokenizer, cache):
    """The same size, and no change in the blocks that are sampled of it."""
    content = LINES * (2**20 // len(LINES))
    plain.write_bytes(content)
    before = open_store(plain, tokenizer, "raw")
    (cache / "a.jsonl-0123456789abcdef.partial").mkdir()  # of a killed process
    place = content.index(b"return x", 6000)
    plain.write_bytes(content[:place] + b"return y" + content[place + 8 :])
    os.utime(plain, ns=(0, plain.stat().st_mtime_ns + 1))
    row = content[:place].count(b"\n")
    after = open_store(plain, tokenizer, "raw")
    assert "return y" in tokenizer.decode(np.concatenate(after.read(row)[:2]))
    assert len(list(cache.iterdir())) == 2  # the store and the lock: nothing is left of what the file held before
    with pytest.raises(DataError, match=rf"a\.jsonl:{row + 1}: the line is not the one that was there"):
        list(before.records([row]))


def test_a_file_that_is_gone_or_shorter_is_said(file, tokenizer):
    store = open_store(file, tokenizer, "raw")
    lines = LINES.splitlines(keepends=True)[:3]
    file.write_bytes(gzip.compress(b"".join(lines)) if file.suffix == ".gz" else b"".join(lines))
    with pytest.raises(DataError, match=":4: the line is not the one that was there"):
        list(store.records(range(5)))
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        list(store.records([0]))


def test_one_flipped_bit_anywhere_is_found(plain, tokenizer, cache):
    expected = contents(open_store(plain, tokenizer, "raw"))
    (directory,) = stores(cache)
    rng = np.random.default_rng(0)
    files = sorted(directory.iterdir())
    assert len(files) == 14
    for file in files:
        content = file.read_bytes()
        # Of the header, of the beginning, the end, and somewhere.
        for position in {8, 128, len(content) - 1, int(rng.integers(len(content)))}:
            damaged = bytearray(content)
            damaged[position % len(content)] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            try:
                found = contents(open_store(plain, tokenizer, "raw"))
            except DataError:  # a token id, found when it is read: the next start makes the store again
                found = contents(open_store(plain, tokenizer, "raw"))
            assert found == expected, file.name
            assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["manifest.json", "problem.npy", "response_ids.npy"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_missing_or_shortened_file_is_made_again(plain, tokenizer, cache, name, damage):
    expected = contents(open_store(plain, tokenizer, "raw"))
    (directory,) = stores(cache)
    damage(directory / name)
    assert contents(open_store(plain, tokenizer, "raw")) == expected


def test_what_a_killed_process_left_is_taken_over(plain, tokenizer, cache):
    expected = contents(open_store(plain, tokenizer, "raw"))
    (directory,) = stores(cache)
    directory.rename(directory.with_name(f"{directory.name}.partial"))
    (cache / f"{directory.name}.partial" / "manifest.json").unlink()
    assert contents(open_store(plain, tokenizer, "raw")) == expected
    assert stores(cache) == [directory]


def test_without_a_cache_directory(plain, tokenizer, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(plain))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store = open_store(plain, tokenizer, "raw")
    assert len(contents(store)) == len(ROWS)
    assert f"warning: the tokens of {plain} cannot be kept: {plain}" in capsys.readouterr().err
    assert [path for path in tmp_path.iterdir() if "tokens" in path.name] == []


def test_a_file_that_grows_meanwhile_is_refused(tokenizer, tmp_path, cache):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES))
    original = tokenizer.encode_many

    class Growing(type(tokenizer)):
        def encode_many(self, *args, **options):
            path.touch()
            os.utime(path, ns=(0, 1))
            return original(*args, **options)

    growing = Growing(*tokenizer.__reduce__()[1])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: the file changed while it was tokenized"):
        open_store(path, growing, "raw")
    assert stores(cache) == []


def test_several_processes_that_need_it_at_once_share_one(plain, tokenizer, cache, capsys):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(contents(open_store(plain, tokenizer, "raw")))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one == found[0] for one in found)
    assert len(stores(cache)) == 1
    assert "waiting: the token store of a.jsonl is in use by process" in capsys.readouterr().err


def test_worker_processes_make_the_same_columns(tokenizer, tmp_path, capsys):
    """Of a file large enough for them; a bad line at its end is named."""
    rows = [row | {"output": row["output"] * 40} for row in ROWS]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    lines *= (10 << 20) // len(lines)
    (tmp_path / "large.jsonl").write_bytes(lines)
    (tmp_path / "small.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    large, small = (open_store(tmp_path / name, tokenizer, "raw") for name in ("large.jsonl", "small.jsonl.gz"))
    assert "tokenize large.jsonl" in capsys.readouterr().err
    assert large.digest == small.digest
    assert large.read(len(large) - 1)[1].tolist() == small.read(len(small) - 1)[1].tolist()
    with open(tmp_path / "large.jsonl", "ab") as file:
        file.write(b"{\n")
    with pytest.raises(UserError, match=rf"large\.jsonl:{len(large) + 1}: not valid JSON"):
        open_store(tmp_path / "large.jsonl", tokenizer, "raw")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_ends(plain, tokenizer, end):
    plain.write_bytes(LINES.rstrip(b"\n").replace(b"\n", b"\r\n" if b"\r" in end else b"\n") + end)
    store = open_store(plain, tokenizer, "raw")
    assert [one.task_id for one in store.records(range(len(store)))] == [row["task_id"] for row in ROWS]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], r": the file is empty; expected one JSON object per line"),
        ([GOOD, b"{", GOOD], ":2: not valid JSON"),
        ([GOOD, b"", GOOD], ":2: empty; expected a JSON object"),
        ([GOOD, GOOD.replace(b'"output"', b'"code"')], ":2: field 'output' is missing"),
        ([GOOD, GOOD.replace(b", ", b",\n")], ":2: not valid JSON"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_left(plain, tokenizer, cache, lines, said):
    plain.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(UserError, match=rf"a\.jsonl{said}"):
        open_store(plain, tokenizer, "raw")
    assert stores(cache) == []


def test_long_lines_take_linear_time_and_stay_whole(plain, tokenizer):
    long = ROWS[0] | {"output": "x" * 8_000_000}
    plain.write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0], long, ROWS[1])))
    store = open_store(plain, tokenizer, "raw")
    assert [len(one.output) for one in store.records(range(3))] == [
        len(ROWS[0]["output"]),
        8_000_000,
        len(ROWS[1]["output"]),
    ]
