"""Atomic writes, locks and digests."""

import errno
import hashlib
import os
import signal
import subprocess
import sys

import pytest

from wmtp_jax.errors import FileError
from wmtp_jax.files import (
    FileLock,
    atomic_directory,
    atomic_file,
    check_digest,
    files_digest,
    os_errors_named,
    read_sums,
    sha256_of,
    write_atomically,
)


def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "é")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from wmtp_jax.files import atomic_directory, atomic_file
path = Path(sys.argv[2])
with (atomic_file if sys.argv[1] == "file" else atomic_directory)(path) as opened:
    (opened if sys.argv[1] == "file" else open(opened / "x", "wb")).write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_process_left_is_taken_over(tmp_path, kind):
    path = tmp_path / "a"
    ended = subprocess.run([sys.executable, "-c", _KILLED, kind, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    if kind == "file":
        write_atomically(path, "whole")
    else:
        with atomic_directory(path) as partial:
            assert not list(partial.iterdir())
            (partial / "y").write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_directory_appears_at_the_end_and_replaces_only_when_asked(tmp_path):
    path = tmp_path / "d"
    with atomic_directory(path) as partial:
        (partial / "one").write_text("1")
        assert not path.exists()
    with pytest.raises(FileError, match="exists already"), atomic_directory(path):
        pass
    with atomic_directory(path, replace=True) as partial:
        (partial / "two").write_text("2")
    assert [entry.name for entry in path.iterdir()] == ["two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


def test_a_failed_directory_is_removed_or_kept_to_continue(tmp_path):
    for keep in (False, True):
        with pytest.raises(RuntimeError), atomic_directory(tmp_path / "d", keep_partial=keep) as partial:
            (partial / "x").write_text("")
            raise RuntimeError
        assert (tmp_path / "d.partial" / "x").exists() == keep
    with atomic_directory(tmp_path / "d", keep_partial=True) as partial:
        assert (partial / "x").exists()
    assert (tmp_path / "d" / "x").exists()


def test_two_writers_of_one_directory(tmp_path):
    with (
        atomic_directory(tmp_path / "d"),
        pytest.raises(FileError, match="another process is writing"),
        atomic_directory(tmp_path / "d"),
    ):
        pass


def test_a_lock_names_its_holder_and_ends_with_its_block(tmp_path):
    path = tmp_path / "lock"
    in_use = pytest.raises(FileError, match=f"the run is in use by process {os.getpid()} on .*; wait for it")
    with FileLock(path, "the run", "wait for it"), in_use:
        FileLock(path, "the run", "wait for it")
    with FileLock(path, "the run", "wait for it"):
        pass


def test_a_full_disk_is_named():
    with pytest.raises(FileError, match="out/a: No space left on device; make room"), os_errors_named("out/a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_directory_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="missing/a: No such file"):
        write_atomically(tmp_path / "missing" / "a", "")


def test_digests(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"a").hexdigest()
    both = files_digest([tmp_path / "a", tmp_path / "b"])
    assert both == files_digest([tmp_path / "b", tmp_path / "a"])
    (tmp_path / "b").rename(tmp_path / "c")
    assert files_digest([tmp_path / "a", tmp_path / "c"]) != both


@pytest.mark.parametrize(("offset", "nbytes"), [(0, None), (3, None), (3, 4), (3, 100), (100, 4), (3, 0)])
def test_digest_of_a_part(tmp_path, offset, nbytes):
    (tmp_path / "a").write_bytes(b"0123456789")
    part = b"0123456789"[offset : None if nbytes is None else offset + nbytes]
    assert sha256_of(tmp_path / "a", offset, nbytes) == hashlib.sha256(part).hexdigest()


def test_sums_in_the_format_of_sha256sum(tmp_path):
    (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64}  one\n\n{'B' * 64} *two words\n")
    assert read_sums(tmp_path / "SHA256SUMS") == {"one": "a" * 64, "two words": "b" * 64}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no digest", "line 1: expected a SHA-256 digest and a file name"),
        (f"{'a' * 64}  a\n{'a' * 64}", "line 2: expected a SHA-256 digest"),
        (f"{'a' * 64}  ../a", r"line 1: names '\.\./a'; expected files in the directory"),
        (f"{'a' * 64}  /a", "line 1: names '/a'"),
        (f"{'a' * 64}  a\n{'b' * 64}  a", "line 2: duplicate file name 'a'"),
    ],
)
def test_wrong_sums(tmp_path, text, message):
    (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(FileError, match=message):
        read_sums(tmp_path / "SHA256SUMS")


def test_a_digest_that_differs(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    check_digest(tmp_path / "a", hashlib.sha256(b"a").hexdigest(), "SHA256SUMS")
    with pytest.raises(FileError, match="a: differs from its digest in SHA256SUMS; restore it"):
        check_digest(tmp_path / "a", "0" * 64, "SHA256SUMS")
    with pytest.raises(FileError, match="b: is missing, but SHA256SUMS lists it"):
        check_digest(tmp_path / "b", "0" * 64, "SHA256SUMS")


def test_a_replacement_that_was_killed_between_its_renames_is_undone(tmp_path):
    path = tmp_path / "d"
    with atomic_directory(path) as partial:
        (partial / "one").write_text("1")
    path.rename(tmp_path / ".d.old")
    with pytest.raises(RuntimeError), atomic_directory(path, replace=True):
        raise RuntimeError
    assert (path / "one").read_text() == "1"
