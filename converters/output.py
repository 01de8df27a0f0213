"""A model directory in the making: built as NAME.partial/model, moved to NAME when complete, continued after a kill.

Every tensor's place in its file is known before the first byte is written. A journal says which tensors are done and
with which digest; whoever continues reads those bytes again and keeps a tensor only when its digest still matches.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from converters.arrangement import FLAT, Arrangement
from converters.errors import ConverterError
from converters.json_file import write_bytes, write_json
from converters.safetensors_file import safetensors_header
from converters.stored import StoredTensor

MANIFEST = "manifest.json"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_IN_FLIGHT = 2
_METADATA = {"format": "pt"}  # Hugging Face's loaders refuse files without it.


@dataclasses.dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written, before it has a file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def shard_files(tensors: list[OutputTensor], stem: str, max_shard_bytes: int) -> dict[str, list[OutputTensor]]:
    """Tensors per file, in order: stem.safetensors, or shards stem-00001-of-00003.safetensors of limited size."""
    shards: list[list[OutputTensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(other.nbytes for other in shards[-1]) + tensor.nbytes > max_shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    if len(shards) == 1:
        return {f"{stem}.safetensors": shards[0]}
    return {f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards, 1)}


class OutputDirectory:
    """Writes the tensors of one model; use as a context manager.

    Leaving by a `ConverterError` removes what was written; any other interruption leaves NAME.partial to continue.

    Args:
        directory: must not exist or be empty.
        files: tensors per file, as of `shard_files`.
        stem: of the index, when there are several files.
        fingerprint: of everything that determines the bytes; what another fingerprint left behind is thrown away.
        arrangement: in which folders of the directory the files are to lie.

    Raises:
        ConverterError: the directory is in use, not empty, or the disk is too small.
    """

    def __init__(
        self,
        directory: Path,
        files: dict[str, list[OutputTensor]],
        stem: str,
        fingerprint: str,
        arrangement: Arrangement = FLAT,
    ):
        self.directory = directory.resolve()  # Gives "." a name and follows links.
        self.partial = self.directory.with_name(self.directory.name + ".partial")
        self._model = self.partial / "model"
        self._weights = self._model / arrangement.weights
        self._configs = self._model / arrangement.configs
        self._stem, self._fingerprint = stem, fingerprint
        self._file_tensors = files
        self.places: dict[str, StoredTensor] = {}
        self.digests: dict[str, str] = {}
        self._headers: dict[str, bytes] = {}
        for file_name, tensors in files.items():
            header = safetensors_header([(t.name, t.shape, t.dtype) for t in tensors], _METADATA)
            self._headers[file_name] = header
            offset = len(header)
            for t in tensors:
                self.places[t.name] = StoredTensor(
                    t.name, self._weights / file_name, offset, t.shape, t.dtype, t.dtype.name
                )
                offset += t.nbytes
        self._pending: collections.deque[Future] = collections.deque()

    def __enter__(self) -> "OutputDirectory":
        check_destination(self.directory)
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        if self.partial.exists() and not (self.partial / _LOCK).is_file() and any(self.partial.iterdir()):
            raise ConverterError(f"{self.partial}: exists and was not left by a conversion; move it away")
        self.partial.mkdir(exist_ok=True)
        self._lock = open(self.partial / _LOCK, "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ConverterError(f"{self.directory}: another conversion is writing it; wait for its end") from error
        self._resume()
        self._stack = contextlib.ExitStack()
        try:
            self._check_space()
            self._open_files()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, _traceback) -> None:
        for future in self._pending:
            future.cancel()
        self._stack.close()
        if isinstance(error, ConverterError):
            shutil.rmtree(self.partial)
        self._lock.close()

    def write(self, name: str, chunks: Iterable[np.ndarray]) -> None:
        """Writes a tensor; digest and disk run in a thread beside the producer of the next chunk.

        Args:
            name: of one of the tensors, not yet in `digests`.
            chunks: contiguous arrays that make up its bytes in order; must not be changed afterwards.
        """
        place = self.places[name]
        digest, offset = hashlib.sha256(), place.offset
        for chunk in chunks:
            data = memoryview(chunk.reshape(-1).view(np.uint8))
            self._submit(self._put, place.path, digest, data, offset)
            offset += len(data)
        if offset != place.offset + place.nbytes:
            raise AssertionError(f"{name}: produced {offset - place.offset} bytes of {place.nbytes}")
        self._submit(self._done, name, digest)

    def finish(
        self,
        configs: dict[str, dict],
        others: Mapping[str, bytes],
        manifest: dict,
        complete: Callable[[Path], None] | None = None,
    ) -> None:
        """Writes what surrounds the weights, syncs everything, and moves the directory to its name.

        Args:
            configs: JSON files by name.
            others: further files by their path in the directory.
            manifest: what manifest.json says besides the digests.
            complete: called last with the directory under its provisional name; may add files.
        """
        self.drain()
        for file in self._files.values():
            os.fsync(file.fileno())
        if len(self._headers) > 1:
            weight_map = {name: place.path.name for name, place in self.places.items()}
            total = sum(place.nbytes for place in self.places.values())
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            write_json(self._weights / f"{self._stem}.safetensors.index.json", index)
        self._configs.mkdir(exist_ok=True)
        for name, record in configs.items():
            write_json(self._configs / name, record)
        for name, data in others.items():
            (self._model / name).parent.mkdir(exist_ok=True)
            write_bytes(self._model / name, data)
        in_model = lambda path: path.relative_to(self._model).as_posix()
        surrounding = sorted(path for path in self._written() if path not in self._files)
        record = {
            **manifest,
            "files": {in_model(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in surrounding},
            "tensors": {
                name: {
                    "file": in_model(place.path),
                    "dtype": place.type_name,
                    "shape": list(place.shape),
                    "sha256": self.digests[name],
                }
                for name, place in self.places.items()
            },
        }
        write_json(self._model / MANIFEST, record)
        if complete:
            complete(self._model)
        for directory in {path.parent for path in self._written()} | {self._model}:
            _sync_directory(directory)
        os.replace(self._model, self.directory)
        _sync_directory(self.directory.parent)
        shutil.rmtree(self.partial)

    def _written(self) -> list[Path]:
        """Every file of the directory in the making, links included."""
        return [path for path in self._model.rglob("*") if path.is_symlink() or path.is_file()]

    def _resume(self) -> None:
        """Keeps the finished tensors of a killed conversion of the same source; forgets everything else."""
        journal = self.partial / _JOURNAL
        lines = journal.read_bytes().splitlines() if journal.is_file() else []
        if not lines or lines[0].decode(errors="replace") != self._fingerprint:
            journal.unlink(missing_ok=True)
            shutil.rmtree(self._model, ignore_errors=True)
            return
        for path in self._written():
            if path.parent != self._weights or path.name not in self._headers:  # Written at the end, so written anew.
                path.unlink()
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # The last line may be torn.
                entry = json.loads(line)
                if digest_of(self.places[entry["name"]]) == entry["sha256"]:
                    self.digests[entry["name"]] = entry["sha256"]

    def _check_space(self) -> None:
        needed = sum(place.nbytes for name, place in self.places.items() if name not in self.digests)
        present = sum(path.stat().st_blocks * 512 for path in self._written())
        kept = sum(self.places[name].nbytes for name in self.digests)
        free = shutil.disk_usage(self.partial).free + max(0, present - kept)
        if free < needed:
            raise ConverterError(
                f"{self.directory}: needs {needed / 1e9:.1f} GB, its disk has {free / 1e9:.1f} GB left; make room"
            )

    def _open_files(self) -> None:
        self._weights.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for name, header in self._headers.items():
            path = self._weights / name
            path.touch()
            file = self._stack.enter_context(open(path, "r+b", buffering=0))  # noqa: SIM115
            self._files[path] = file
            file.truncate(len(header) + sum(tensor.nbytes for tensor in self._file_tensors[name]))
            file.write(header)
        lines = [json.dumps({"name": name, "sha256": digest}) for name, digest in self.digests.items()]
        write_bytes(self.partial / _JOURNAL, "\n".join([self._fingerprint, *lines, ""]).encode())
        self._journal = self._stack.enter_context(open(self.partial / _JOURNAL, "a"))  # noqa: SIM115
        self._pool = self._stack.enter_context(ThreadPoolExecutor(1))  # Last in, first closed: it uses the files.

    def _submit(self, function, *arguments) -> None:
        self._pending.append(self._pool.submit(function, *arguments))
        while len(self._pending) > _IN_FLIGHT:
            self._pending.popleft().result()

    def drain(self) -> None:
        """Waits until every byte handed to `write` is in its file."""
        while self._pending:
            self._pending.popleft().result()

    def _put(self, path: Path, digest, data: memoryview, offset: int) -> None:
        digest.update(data)
        file = self._files[path]
        file.seek(offset)
        while data:
            data = data[file.write(data) :]

    def _done(self, name: str, digest) -> None:
        self.digests[name] = digest.hexdigest()
        self._journal.write(json.dumps({"name": name, "sha256": self.digests[name]}) + "\n")
        self._journal.flush()


def check_destination(directory: Path) -> None:
    """Raises ConverterError unless the directory is free to become an output."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConverterError(f"{directory}: exists already; give a directory that does not exist or is empty")
    above = next(path for path in directory.absolute().parents if path.exists())
    if not above.is_dir():
        raise ConverterError(f"{directory}: cannot be made, because {above} is not a directory; give another place")


def digest_of(tensor: StoredTensor) -> str:
    """SHA-256 of a tensor's bytes in its file; of fewer bytes when the file ends early."""
    digest = hashlib.sha256()
    for piece in _pieces(tensor):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(tensor: StoredTensor) -> Iterator[bytes]:
    rest = tensor.nbytes
    if tensor.path.exists():
        with open(tensor.path, "rb", buffering=0) as file:
            file.seek(tensor.offset)
            while rest and (piece := file.read(min(rest, 16 * 2**20))):
                rest -= len(piece)
                yield piece


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
