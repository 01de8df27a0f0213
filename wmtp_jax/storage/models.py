"""Sets up storage/models_v2/NAME: weights, config and tokenizer in folders, and proof of what they are."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint import FOLDERS, Checkpoint, open_checkpoint
from converters.output import MANIFEST, check_destination
from converters.plan import Plan, fingerprint, make_plan
from converters.save import run_plan
from converters.tensor import parse_dtype
from wmtp_jax.data import load_tokenizer
from wmtp_jax.errors import shown
from wmtp_jax.files import json_digest, write_atomically
from wmtp_jax.progress import Progress
from wmtp_jax.storage.assets import MODELS, StorageError, check_not_complete, write_checksums
from wmtp_jax.storage.catalogue import Model, model_named

_TOKENIZER = "tokenizer.model"


def set_up_model(
    name: str,
    source: Path,
    storage: Path,
    *,
    origin: str,
    revision: str | None = None,
    tokenizer: Path | None = None,
    dtype: str | None = None,
) -> None:
    """Writes a model complete or not at all; one that was killed continues when the same call is made again.

    Args:
        name: of the catalogue, or the user's own for any Hugging Face Llama.
        source: directory that holds the model in Meta's or Hugging Face's layout.
        storage: the directory that holds models_v2.
        origin: where the source came from, for metadata.json.
        revision: of the origin.
        tokenizer: a SentencePiece model, when there is none beside the weights.
        dtype: of what is written; None keeps the source's.

    Raises:
        StorageError: the name is taken or impossible, the source is no such model or incomplete, or its tokenizer is
            another one.
        ConverterError: the source is damaged, or the disk is too small.
        DataError: the tokenizer does not fit the model's vocabulary.
    """
    directory = check_free(name, storage)
    model = model_named(name)
    source = _find(source, model)
    checkpoint = open_checkpoint(source)
    _check_kind(checkpoint, model)
    own_tokenizer = load_tokenizer(tokenizer, for_code=False).path if tokenizer else _beside(source, model)
    shared = _shared_tokenizer(model, storage, own_tokenizer)
    vocabulary = load_tokenizer(shared or own_tokenizer, vocab_size=checkpoint.config.vocab_size, for_code=False)
    plan = make_plan(checkpoint, checkpoint.layout, dtype=parse_dtype(dtype))
    metadata = _metadata(model, checkpoint, plan, origin, revision)
    folder = f"../{model.tokenizer_of}/{FOLDERS.tokenizer}" if shared else FOLDERS.tokenizer
    metadata["tokenizer"] = {"path": folder, "sha256": vocabulary.digest}
    copies = [] if shared else [path for path in checkpoint.tokenizer_files if path.name != _TOKENIZER]

    def complete(partial: Path) -> None:
        """Adds the tokenizer, stored once where models share it, and the checksums."""
        link = partial / FOLDERS.tokenizer
        if shared:
            link.symlink_to(folder, target_is_directory=True)
        else:
            link.mkdir(exist_ok=True)
            write_atomically(link / _TOKENIZER, own_tokenizer.read_bytes())
        metadata["digests"] = {"tensors": tensors_digest(json.loads((partial / MANIFEST).read_bytes())["tensors"])}
        write_checksums(partial, metadata)

    identity = json_digest([fingerprint(checkpoint, plan), metadata])
    with Progress(plan.nbytes / 1e6, name, unit="MB", rate="MB") as progress:
        run_plan(checkpoint, plan, directory, identity, copies, progress, folders=FOLDERS, complete=complete)
    for note in metadata["notes"]:
        print(f"note: {note}")
    print(
        f"{directory}: {metadata['parameters']:,} parameters, {metadata['dtype']}, {checkpoint.layout.title} layout, "
        f"tokenizer {'of ' + model.tokenizer_of if shared else 'of its own'}"
    )


def check_free(name: str, storage: Path) -> Path:
    """The directory of a model that is to be set up; raises StorageError where its name is impossible or taken."""
    if not name or Path(name).name != name or name.startswith(".") or name.endswith(".partial"):
        raise StorageError(f"{shown(name)} cannot be a directory of {MODELS}; expected a name such as my-llama-7b")
    directory = storage / MODELS / name
    check_not_complete(directory)
    check_destination(directory)
    return directory


def count_parameters(checkpoint: Checkpoint) -> int:
    """Number of weights of a model, tied embeddings counted once; a value head is not among them."""
    return sum(math.prod(shape) for shape in checkpoint.shapes.values())


def dtype_names(tensors: Mapping[str, Any]) -> str:
    """The dtypes that there are among tensors, such as "bfloat16+float32"."""
    return "+".join(sorted({tensor.dtype.name for tensor in tensors.values()}))


def tensors_digest(tensors: dict[str, dict[str, Any]]) -> str:
    """One digest of all tensors of a manifest: names, dtypes, shapes and bytes, but not how they lie in files."""
    lines = [f"{name} {entry['dtype']} {entry['shape']} {entry['sha256']}\n" for name, entry in sorted(tensors.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _find(source: Path, model: Model) -> Path:
    """The directory of the model itself, in a copy of its repository or not."""
    if unfinished := sorted(source.rglob("*.incomplete")):
        raise StorageError(
            f"{unfinished[0]}: its download is not finished; let the download end (the same command continues it)"
        )
    return source / model.folder if (source / model.folder).is_dir() else source


def _check_kind(checkpoint: Checkpoint, model: Model) -> None:
    """The layout and the value head that are published under this name."""
    if model.layout not in ("", checkpoint.layout.name):
        raise StorageError(
            f"{checkpoint.directory}: is in {checkpoint.layout.title} layout, but {model.name} is published in the "
            f"layout {model.layout!r}; give the published files, or another name"
        )
    if model.reward_model and checkpoint.value_head is None:
        raise StorageError(
            f"{checkpoint.directory}: has no value head, but {model.name} is a reward model; give the published files"
        )


def _beside(source: Path, model: Model) -> Path | None:
    """The tokenizer in the model's directory, or in the repository's around it."""
    places = [source, source / FOLDERS.tokenizer] + ([source.parent] if model.folder else [])
    return next((place / _TOKENIZER for place in places if (place / _TOKENIZER).is_file()), None)


def _shared_tokenizer(model: Model, storage: Path, own: Path | None) -> Path | None:
    """The tokenizer that the model has in common with another one that is set up; None when it needs its own."""
    elsewhere = storage / MODELS / model.tokenizer_of / FOLDERS.tokenizer / _TOKENIZER
    if model.tokenizer_of and elsewhere.is_file():
        if own and own.read_bytes() != elsewhere.read_bytes():
            raise StorageError(
                f"{own}: is another tokenizer than {elsewhere}, with which {model.name} has to share its token ids; "
                "give the files of the published model"
            )
        return elsewhere
    if own is None:
        first = f" or set up {model.tokenizer_of} first, whose tokenizer it shares" if model.tokenizer_of else ""
        raise StorageError(f"there is no {_TOKENIZER} beside the weights; give one with --tokenizer FILE{first}")
    return None


def _metadata(model: Model, checkpoint: Checkpoint, plan: Plan, origin: str, revision: str | None) -> dict[str, Any]:
    """What is known before anything is written."""
    parameters = count_parameters(checkpoint)
    notes = list(plan.notes)
    if model.parameters not in (0, parameters):
        notes.append(f"{model.name} is published with {model.parameters:,} parameters, this one has {parameters:,}")
    if checkpoint.ignored:
        notes.append(f"left out by name: {len(checkpoint.ignored)} tensors without parameters")
    metadata = {
        "name": model.name,
        "source": origin,
        "revision": revision,
        "licence": model.licence,
        "layout": plan.target.name,
        "dtype": dtype_names(plan.tensors),
        "parameters": parameters,
        "tensors": len(plan.tensors),
        "notes": notes,
    }
    if checkpoint.value_head is not None:
        metadata["value_head"] = {"shape": list(checkpoint.value_head.shape), "dtype": checkpoint.value_head.dtype.name}
    return metadata
