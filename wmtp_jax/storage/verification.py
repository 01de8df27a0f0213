"""Compares assets with their checksums and metadata: every digest, key, shape, dtype and count."""

import collections
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from converters.checkpoint import FOLDERS, open_checkpoint
from converters.inspect import verify_tensors
from wmtp_jax.data import load_tokenizer
from wmtp_jax.errors import UserError, shown
from wmtp_jax.files import SUMS, check_sums, read_sums, sha256_of
from wmtp_jax.jsonl import read_lines, read_object
from wmtp_jax.storage.assets import DATASETS, METADATA, MODELS, StorageError, is_complete, listed_files
from wmtp_jax.storage.catalogue import CATALOGUE, KNOWN_DATASETS
from wmtp_jax.storage.models import count_parameters, dtype_names, tensors_digest


class AssetStatus(NamedTuple):
    """How one asset was found."""

    asset: str  # "models_v2/NAME" or "datasets_v2/NAME"
    status: str  # "ok", "failed", "not finished" (its set-up was stopped) or "not set up"
    finding: str  # what it was found to be, or what is wrong with it


def verify_assets(storage: Path, kinds: Sequence[str] = (MODELS, DATASETS)) -> list[AssetStatus]:
    """Checks every asset of a storage that is there, and names those that could be; stderr says which one is read.

    Raises:
        StorageError: there is no such directory.
    """
    if not storage.is_dir():
        raise StorageError(f"{storage}: no such directory; expected one that holds {MODELS} and {DATASETS}")
    known = {MODELS: (tuple(CATALOGUE), verify_model), DATASETS: (KNOWN_DATASETS, verify_data_set)}
    statuses = []
    for kind in kinds:
        names, verify = known[kind]
        present = {path.name for path in (storage / kind).glob("*") if path.is_dir() and not path.name.startswith(".")}
        for name in sorted(present | set(names)):
            if name in present:
                print(f"checking {kind}/{name}", file=sys.stderr)  # reading its bytes can take minutes
            statuses.append(_status(storage / kind / name, verify))
    return statuses


def verify_model(directory: Path) -> str:
    """Compares every byte of a model with SHA256SUMS, manifest.json and metadata.json; says what it is.

    Raises:
        UserError: names the first thing that differs.
    """
    metadata = _checked_metadata(directory)
    checkpoint = open_checkpoint(directory)
    manifest = verify_tensors(checkpoint)
    found = {
        "layout": checkpoint.layout.name,
        "dtype": dtype_names(checkpoint.tensors),
        "parameters": count_parameters(checkpoint),
        "tensors": len(checkpoint.tensors),
        "digests": {"tensors": tensors_digest(manifest.tensors)},
    }
    optional = {"tensors", "digests"}  # Exports of training runs say less.
    _compare(directory, metadata, {name: found[name] for name in found if name not in optional or name in metadata})
    _check_tokenizer(directory, metadata, checkpoint.config.vocab_size)
    return f"{found['parameters']:,} parameters, {found['dtype']}, {checkpoint.layout.title} layout"


def verify_data_set(directory: Path) -> str:
    """The same of a data set: its bytes with SHA256SUMS, its numbers of rows with metadata.json."""
    metadata = _checked_metadata(directory)
    records = metadata.get("records")
    if not isinstance(records, dict) or not records:
        raise StorageError(f"{directory / METADATA}: has no 'records'; expected the number of rows per file")
    _compare(directory, records, {name: sum(1 for _ in read_lines(directory / name)) for name in records})
    return f"{sum(records.values()):,} rows in {len(records)} files"


def status_table(assets: Sequence[AssetStatus]) -> str:
    """Aligned text: one line per asset, then a line that counts."""
    width = [max(len(asset[i]) for asset in assets) for i in range(2)]
    lines = [f"{name:<{width[0]}}  {status:<{width[1]}}  {finding}".rstrip() for name, status, finding in assets]
    counts = collections.Counter(asset.status for asset in assets)
    return "\n".join([*lines, "", ", ".join(f"{counts[status]} {status}" for status in sorted(counts))])


def _status(directory: Path, verify: Callable[[Path], str]) -> AssetStatus:
    asset = f"{directory.parent.name}/{directory.name}"
    if directory.name.endswith(".partial"):
        return AssetStatus(asset, "not finished", "the command that sets it up completes it")
    if not directory.exists():
        return AssetStatus(asset, "not set up", "")
    try:
        return AssetStatus(asset, "ok", verify(directory))
    except UserError as error:
        return AssetStatus(asset, "failed", str(error))
    except OSError as error:
        return AssetStatus(asset, "failed", f"{error.filename or directory}: {error.strerror or error}")


def _checked_metadata(directory: Path) -> dict[str, Any]:
    """The metadata of an asset whose files are exactly those that were there when it was set up."""
    if not is_complete(directory):
        raise StorageError(f"{directory}: has no {SUMS}, so there is no digest to compare with; set it up again")
    if extra := sorted(set(listed_files(directory)) - read_sums(directory / SUMS).keys()):
        raise StorageError(f"{directory / extra[0]}: is not among the files of {SUMS}; remove it")
    check_sums(directory)
    metadata = read_object(directory / METADATA)
    _compare(directory, metadata, {"name": directory.name})
    return metadata


def _compare(directory: Path, said: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in found.items():
        if said.get(name) != value:
            raise StorageError(
                f"{directory / METADATA}: says that {name} is {shown(said.get(name))}, but it is {shown(value)}; one "
                "of the two was changed, so set it up again"
            )


def _check_tokenizer(directory: Path, metadata: dict[str, Any], vocab_size: int) -> None:
    """The tokenizer, which may be stored with another model, is still the one that the model was set up with."""
    if said := metadata.get("tokenizer"):
        path = directory / said["path"] / "tokenizer.model"
        if not path.is_file() or path.parent.resolve() != (directory / FOLDERS.tokenizer).resolve():
            raise StorageError(f"{directory}: {METADATA} places the tokenizer in {said['path']}; restore it")
        if sha256_of(path) != said["sha256"]:
            raise StorageError(f"{path}: is another tokenizer than when the model was set up; restore it")
    load_tokenizer(directory, vocab_size=vocab_size, for_code=False)
