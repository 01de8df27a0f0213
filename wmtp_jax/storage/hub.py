"""Fetches the files of a model from the Hugging Face hub, into the hub's own cache."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wmtp_jax.storage.errors import StorageError

_WEIGHTS = (
    r"[^/]*\.safetensors(\.index\.json)?",
    r"consolidated\.(00\.)?pth",
    r"pytorch_model[^/]*\.bin(\.index\.json)?",
)
_SURROUNDING = r"(config|params|tokenizer_config|special_tokens_map|added_tokens)\.json|tokenizer\.(model|json)"


class Snapshot(NamedTuple):
    """What was fetched: the directory of the model, and the commit of the repository."""

    directory: Path
    revision: str


def download(repository: str, folder: str, revision: str | None, storage: Path) -> Snapshot:
    """Fetches one format of the weights, the config and the tokenizer; what is in the cache is not fetched again.

    The token comes from the environment (HF_TOKEN) or from `hf auth login`. A download that was stopped goes on where
    it stood.

    Args:
        repository: "owner/name".
        folder: of the repository that holds the model; "" for the repository itself.
        revision: commit, branch or tag; None takes the newest.
        storage: where the model will be written, for the check of the disks.

    Raises:
        StorageError: no access, no such repository or revision, no connection, or too little room.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise StorageError(
            "downloading needs the package huggingface-hub; install it with pip install -e '.[datasets]'"
        ) from error
    with _sentences(repository, revision):
        info = huggingface_hub.HfApi().model_info(repository, revision=revision)
        wanted = choose_files([file.rfilename for file in info.siblings], folder)
        if not wanted:
            raise StorageError(
                f"{repository}: holds no weights{' in ' + folder if folder else ''} at revision {info.sha}; expected "
                "safetensors, pytorch_model.bin or consolidated.pth"
            )
        fetch = {"repo_id": repository, "revision": info.sha, "allow_patterns": wanted}
        parts = huggingface_hub.snapshot_download(**fetch, dry_run=True)
        cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
        arriving = sum(part.file_size or 0 for part in parts if part.will_download)
        check_room([(cache, arriving), (storage, sum(part.file_size or 0 for part in parts))])
        print(f"{repository} at {info.sha}: {len(wanted)} files, {arriving / 1e9:.2f} GB to fetch into {cache}")
        snapshot = Path(huggingface_hub.snapshot_download(**fetch))
    return Snapshot(snapshot / folder, info.sha)


def choose_files(files: list[str], folder: str) -> list[str]:
    """The files to fetch of those that a repository holds: weights in the first format there is, config, tokenizer."""
    prefix = f"{folder}/" if folder else ""
    inside = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    for pattern in _WEIGHTS:
        if weights := [name for name in inside if re.fullmatch(pattern, name)]:
            surrounding = [name for name in inside if re.fullmatch(_SURROUNDING, name)]
            shared = ["tokenizer.model"] if folder and "tokenizer.model" in files else []
            return sorted([prefix + name for name in weights + surrounding] + shared)
    return []


def check_room(needs: list[tuple[Path, int]]) -> None:
    """Raises StorageError unless every disk has room for what is to be written.

    Args:
        needs: directories, which need not exist yet, and bytes; those on one disk add up.
    """
    on_disk: dict[int, list[tuple[Path, int]]] = {}
    for path, nbytes in needs:
        existing = next(above for above in (path.absolute(), *path.absolute().parents) if above.exists())
        on_disk.setdefault(existing.stat().st_dev, []).append((existing, nbytes))
    for parts in on_disk.values():
        needed, free = sum(nbytes for _, nbytes in parts), shutil.disk_usage(parts[0][0]).free
        if needed > free:
            raise StorageError(
                f"{' and '.join(dict.fromkeys(str(path) for path, _ in parts))}: needs {needed / 1e9:.2f} GB, but the "
                f"disk has {free / 1e9:.2f} GB left; make room, or set HF_HOME and --storage to places on larger disks"
            )


@contextlib.contextmanager
def _sentences(repository: str, revision: str | None) -> Iterator[None]:
    """Turns what the hub's client raises into sentences."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise StorageError(
            f"{repository}: access is granted on request only; accept its licence at "
            f"https://huggingface.co/{repository}, then set HF_TOKEN to a token of that account"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise StorageError(f"{repository}: has no revision {revision!r}; give a commit, branch or tag of it") from error
    except errors.RepositoryNotFoundError as error:
        raise StorageError(
            f"{repository}: there is no such repository, or it is private; check the name, or set HF_TOKEN to a token "
            "that may read it"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StorageError(
            f"{repository}: the download stopped ({reason}); the same command goes on where it was"
        ) from error
