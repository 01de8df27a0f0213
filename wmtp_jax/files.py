"""Files that appear complete or not at all, locks, and digests: once for the whole project.

A file is written as `.NAME.tmp` beside its destination, a directory as `NAME.partial`, then synced and renamed. Both
are locked while they are written, and the kernel drops a lock with its process: what a killed process left is taken
over by the next writer.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from wmtp_jax.errors import FileError, shown

SUMS = "SHA256SUMS"
_PIECE = 16 << 20


def cache_directory() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/wmtp_jax, by default under ~/.cache.

    Raises:
        FileError: neither that variable nor the user's home directory is known.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wmtp_jax"
    except RuntimeError as error:
        raise FileError("~/.cache: this user has no home directory; set HOME or XDG_CACHE_HOME") from error


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a whole file, text as UTF-8; it appears complete or not at all, even when the machine stops.

    Raises:
        FileError: it cannot be written (no space, no permission); names the path.
    """
    with atomic_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that takes its name when the block ends, and leaves nothing when the block fails.

    Raises:
        FileError: it cannot be written; names the path.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with os_errors_named(path):
        create = lambda: os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(_locked(temporary, create, fcntl.LOCK_EX), "r+b") as file:
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)  # while it is locked: afterwards it may be another writer's
                raise
        sync_directory(path.parent)


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False, keep_partial: bool = False) -> Iterator[Path]:
    """Makes `NAME.partial` to be filled; it takes the name `path` when the block ends.

    Args:
        path: the directory to make.
        replace: whether an existing directory gives way to the new one.
        keep_partial: leaves the partial directory of a failed or killed block to the next call, which continues in it;
            without it the next call starts from nothing.

    Yields:
        The partial directory, locked against other processes.

    Raises:
        FileError: the destination exists, another process is writing it, or the disk refuses.
    """
    partial, old = path.with_name(f"{path.name}.partial"), path.with_name(f".{path.name}.old")
    with os_errors_named(path):
        if replace and old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileError(f"{path}: exists already; remove it, or give a directory that does not exist or is empty")
        descriptor = _lock_directory(partial, path)
        try:
            if not keep_partial:
                _empty(partial)
            try:
                yield partial
            except BaseException:
                if not keep_partial:
                    shutil.rmtree(partial, ignore_errors=True)
                raise
            for directory in [partial, *(child for child in partial.rglob("*") if child.is_dir())]:
                sync_directory(directory)
            shutil.rmtree(old, ignore_errors=True)
            if replace and path.exists():
                path.rename(old)
            os.replace(partial, path)
            sync_directory(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            os.close(descriptor)


class FileLock(contextlib.AbstractContextManager):
    """An exclusive lock on a file, held until the end of the block or of the process, whatever ended it.

    Args:
        path: of the lock file; made when absent, and never removed.
        what: is locked, for the message: "run directory runs/a".
        advice: what to do when it is in use.
        wait: waits until it is free, and says so.

    Raises:
        FileError: another process holds it; the message names that process.
    """

    def __init__(self, path: Path, what: str, advice: str, *, wait: bool = False):
        with os_errors_named(path):
            self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closing it frees the lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            in_use = f"{what} is in use by {self._file.read().strip() or 'another process'}"
            if not wait:
                self._file.close()
                raise FileError(f"{in_use}; {advice}") from None
            print(f"waiting: {in_use}", file=sys.stderr)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        with os_errors_named(path):
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()

    def __exit__(self, *_) -> None:
        self._file.close()


@contextlib.contextmanager
def os_errors_named(path: Path | str) -> Iterator[None]:
    """Turns an OSError of the block into a FileError that names the path: a full disk does not say where it is full."""
    try:
        yield
    except OSError as error:
        temporary = f".{Path(path).name}.tmp"
        named = isinstance(error.filename, str | Path) and Path(error.filename).name != temporary
        where = error.filename if named else path
        reason = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room and start the same command again" if full else "check the path and its permissions"
        raise FileError(f"{where}: {reason}; {advice}") from error


def sha256_of(path: Path, offset: int = 0, nbytes: int | None = None) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: of the file.
        offset: where to begin.
        nbytes: how many; None reads to the end, and so does a file that is shorter.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while piece := file.read(_PIECE if nbytes is None else min(_PIECE, nbytes)):
            digest.update(piece)
            nbytes = None if nbytes is None else nbytes - len(piece)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_sums(path: Path) -> dict[str, str]:
    """The digest per file that a SHA256SUMS lists (the format of `sha256sum`).

    Raises:
        FileError: a line that is no digest and file name, or names a file outside of its directory; a duplicate name.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.strip().partition(" ")
        name = name.strip().removeprefix("*")
        if not line.strip():
            continue
        if len(digest) != 64 or not name:
            raise FileError(f"{path}, line {number}: expected a SHA-256 digest and a file name")
        if not is_inside(name):
            raise FileError(f"{path}, line {number}: names {shown(name)}; expected files in the directory of the list")
        if name in sums:
            raise FileError(f"{path}, line {number}: duplicate file name {shown(name)}; keep one of the two lines")
        sums[name] = digest.lower()
    return sums


def check_sums(directory: Path) -> dict[str, str]:
    """Compares every file that a directory's SHA256SUMS lists with its digest; returns the list.

    Raises:
        FileError: as `read_sums`; a file that is missing or differs.
    """
    sums = read_sums(directory / SUMS)
    for name, digest in sums.items():
        check_digest(directory / name, digest, SUMS)
    return sums


def is_inside(name: str) -> bool:
    """Whether a path that a list gives stays inside the directory of the list."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def check_digest(path: Path, digest: str, listed_in: str) -> None:
    """Raises FileError unless the file is there with this SHA-256, which `listed_in` lists."""
    if not path.is_file():
        raise FileError(f"{path}: is missing, but {listed_in} lists it; restore it")
    if sha256_of(path) != digest:
        raise FileError(f"{path}: differs from its digest in {listed_in}; restore it")


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of some files, in hexadecimal; their order does not matter."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(f"{path.name} {sha256_of(path)}\n".encode())
    return state.hexdigest()


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: Path, open_path: Callable[[], int], operation: int) -> int:
    """Descriptor of the file or directory that has this name when the lock is there: a writer may have renamed it."""
    while True:
        descriptor = open_path()
        try:
            fcntl.flock(descriptor, operation)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_directory(partial: Path, path: Path) -> int:
    def open_directory() -> int:
        partial.mkdir(parents=True, exist_ok=True)
        return os.open(partial, os.O_RDONLY)

    try:
        return _locked(partial, open_directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(f"{path}: another process is writing it; wait until it has ended") from None


def _empty(directory: Path) -> None:
    for child in directory.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
