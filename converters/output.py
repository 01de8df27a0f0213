"""The weight files of a model in the making: written in NAME.partial, continued after a kill, complete under NAME.

Every tensor's offset in its file is known before the first byte is written. The journal, .NAME.journal, says which
tensors are done and with which digest; whoever continues reads those bytes again and keeps a tensor only when its
digest still matches.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from converters.checkpoint import FLAT, Folders
from converters.errors import ConverterError
from converters.tensor import StoredTensor, safetensors_header
from wmtp_jax.files import atomic_directory, sha256_of, write_atomically

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "wmtp-jax manifest 1"
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
        return math.prod(self.shape) * self.dtype.itemsize


@contextlib.contextmanager
def open_output(
    directory: Path, files: dict[str, list[OutputTensor]], fingerprint: str, folders: Folders = FLAT
) -> Iterator["Output"]:
    """Makes a model directory with these weight files; `Output.finish` has to be the last call of the block.

    Leaving by a `ConverterError` removes what was written; any other interruption leaves NAME.partial, which an output
    of the same fingerprint continues.

    Raises:
        ConverterError: the disk is too small, or there is a NAME.partial that no conversion has left.
        FileError: the directory is in use, exists, or cannot be written.
    """
    directory = directory.resolve()  # Gives "." a name and follows links.
    journal = directory.with_name(f".{directory.name}.journal")
    with atomic_directory(directory, keep_partial=True) as partial:
        if any(partial.iterdir()) and not journal.is_file() and not _is_finished(partial):
            raise ConverterError(f"{partial}: exists and was not left by a conversion; move it away")
        try:
            with contextlib.ExitStack() as stack:
                yield Output(partial, journal, files, fingerprint, folders, stack)
            journal.unlink()  # Last: a kill between this and the new name costs the work, but leaves nothing behind.
        except ConverterError:
            shutil.rmtree(partial)  # Before the journal, by which the next start knows the rest as its own.
            journal.unlink(missing_ok=True)
            raise


class Output:
    """Writes tensors; `digests` has the SHA-256 of those that are finished, from the beginning after a kill."""

    def __init__(self, partial, journal, files, fingerprint, folders, stack: contextlib.ExitStack):
        self._directory, self._weights = partial, partial / folders.weights
        self._configs = partial / folders.configs
        self.digests: dict[str, str] = {}
        self._tensors: dict[str, StoredTensor] = {}
        self._sizes: dict[Path, int] = {}
        headers: dict[Path, bytes] = {}
        for file_name, tensors in files.items():
            path = self._weights / file_name
            headers[path] = safetensors_header([(t.name, t.shape, t.dtype) for t in tensors], _METADATA)
            offset = len(headers[path])
            for t in tensors:
                self._tensors[t.name] = StoredTensor(t.name, path, offset, t.shape, t.dtype, t.dtype.name)
                offset += t.nbytes
            self._sizes[path] = offset
        self._resume(journal, fingerprint)
        self._check_space()
        lines = [json.dumps({"name": name, "sha256": digest}) for name, digest in self.digests.items()]
        write_atomically(journal, "\n".join([fingerprint, *lines, ""]))
        self._weights.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for path, header in headers.items():
            path.touch()
            file = stack.enter_context(open(path, "r+b", buffering=0))  # noqa: SIM115
            self._files[path] = file
            file.truncate(self._sizes[path])
            file.write(header)
        self._journal = stack.enter_context(open(journal, "a"))  # noqa: SIM115
        self._pool = stack.enter_context(ThreadPoolExecutor(1))  # Last in, first closed: it uses the files.
        self._pending: collections.deque[Future] = collections.deque()
        stack.callback(lambda: [future.cancel() for future in self._pending])

    def write(self, name: str, chunks: Iterable[np.ndarray]) -> None:
        """Writes a tensor; digest and disk run in a thread beside the producer of the next contiguous chunk."""
        tensor = self._tensors[name]
        digest, offset = hashlib.sha256(), tensor.offset
        for chunk in chunks:
            data = memoryview(chunk.reshape(-1).view(np.uint8))
            self._submit(self._put, tensor.path, digest, data, offset)
            offset += len(data)
        if offset != tensor.offset + tensor.nbytes:
            raise AssertionError(f"{name}: produced {offset - tensor.offset} bytes of {tensor.nbytes}")
        self._submit(self._done, name, digest)

    def drain(self, in_flight: int = 0) -> None:
        """Waits until all but the given number of chunks handed to `write` are in their file."""
        while len(self._pending) > in_flight:
            self._pending.popleft().result()

    def finish(self, config_name: str, config: dict, others: Mapping[str, bytes], manifest: dict, complete) -> None:
        """Syncs the weights and writes what surrounds them.

        Args:
            config_name: of the config file.
            config: its content.
            others: further files by their path in the directory.
            manifest: what manifest.json says besides the digests.
            complete: called last, with the partial directory; may add files. Or None.
        """
        self.drain()
        for file in self._files.values():
            os.fsync(file.fileno())
        if len(self._files) > 1:
            stem = next(iter(self._files)).name.partition("-00001-")[0]
            weight_map = {name: tensor.path.name for name, tensor in self._tensors.items()}
            total = sum(tensor.nbytes for tensor in self._tensors.values())
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            _write_json(self._weights / f"{stem}.safetensors.index.json", index)
        self._configs.mkdir(exist_ok=True)
        _write_json(self._configs / config_name, config)
        for name, data in others.items():
            (self._directory / name).parent.mkdir(exist_ok=True)
            write_atomically(self._directory / name, data)
        relative = lambda path: path.relative_to(self._directory).as_posix()
        surrounding = sorted(path for path in self._written() if path not in self._files)
        files = {relative(path): sha256_of(path) for path in surrounding}
        tensors = {
            name: {"file": relative(t.path), "dtype": t.type_name, "shape": list(t.shape), "sha256": self.digests[name]}
            for name, t in self._tensors.items()
        }
        record = {"format": MANIFEST_FORMAT, **manifest, "files": files, "tensors": tensors}
        _write_json(self._directory / MANIFEST, record)
        if complete:
            complete(self._directory)

    def _written(self) -> list[Path]:
        """Every file of the directory in the making, links included."""
        return [path for path in self._directory.rglob("*") if path.is_symlink() or path.is_file()]

    def _resume(self, journal: Path, fingerprint: str) -> None:
        """Keeps the finished tensors of a killed conversion of the same source; removes everything else."""
        lines = journal.read_bytes().splitlines() if journal.is_file() else []
        same = bool(lines) and lines[0].decode(errors="replace") == fingerprint
        for path in sorted(self._directory.rglob("*"), reverse=True):  # What is in a directory comes before it.
            if path.is_symlink() or path.is_file():
                if not same or path not in self._sizes:  # What lies around the weights is written at the end.
                    path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
        for line in lines[1:] if same else []:
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError):  # The last line may be torn.
                entry = json.loads(line)
                if self._tensors[entry["name"]].sha256() == entry["sha256"]:
                    self.digests[entry["name"]] = entry["sha256"]

    def _check_space(self) -> None:
        needed = sum(tensor.nbytes for name, tensor in self._tensors.items() if name not in self.digests)
        present = sum(path.stat().st_blocks * 512 for path in self._written())
        kept = sum(self._tensors[name].nbytes for name in self.digests)
        free = shutil.disk_usage(self._directory).free + max(0, present - kept)
        if free < needed:
            numbers = f"needs {needed / 1e9:.1f} GB, its disk has {free / 1e9:.1f} GB left"
            raise ConverterError(f"{self._directory.with_suffix('')}: {numbers}; make room")

    def _submit(self, function, *arguments) -> None:
        self._pending.append(self._pool.submit(function, *arguments))
        self.drain(_IN_FLIGHT)

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


def _is_finished(partial: Path) -> bool:
    """Whether a conversion was killed just before the directory got its name."""
    manifest = partial / MANIFEST
    return manifest.is_file() and MANIFEST_FORMAT.encode() in manifest.read_bytes()[:100]


def check_destination(directory: Path) -> None:
    """Raises ConverterError unless the directory is free to become an output."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConverterError(f"{directory}: exists already; give a directory that does not exist or is empty")
    above = next(path for path in directory.absolute().parents if path.exists())
    if not above.is_dir():
        raise ConverterError(f"{directory}: cannot be made, because {above} is not a directory; give another place")


def _write_json(path: Path, record: dict) -> None:
    write_atomically(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
