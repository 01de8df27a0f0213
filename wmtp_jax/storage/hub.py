"""Fetches files from the Hugging Face hub so that a download that was stopped continues at the byte where it stopped.

The hub's own client knows names, tokens and retries; since version 2 it forgets a half-fetched file when its process
ends, and one file of a 7B model has 25 GB. It compares sizes, not digests. So the files are opened and checked here,
and only their bytes are left to the client.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from wmtp_jax.errors import shown
from wmtp_jax.files import FileLock, sha256_of
from wmtp_jax.storage.assets import StorageError, check_room

_WEIGHTS = (
    r"[^/]*\.safetensors(\.index\.json)?",
    r"consolidated\.(00\.)?pth",
    r"pytorch_model[^/]*\.bin(\.index\.json)?",
)
_OTHERS = r"(config|params|tokenizer_config|special_tokens_map|added_tokens)\.json|tokenizer\.(model|json)"


class RemoteFile(NamedTuple):
    """A file to fetch."""

    name: str  # path in the repository
    url: str
    size: int  # in bytes
    etag: str  # SHA-256 of a large file, git's SHA-1 of a small one
    cached: str | None  # where the hub's own cache has it


def download(
    repository: str,
    revision: str | None,
    choose: Callable[[list[str]], list[str]],
    directory: Path,
    *,
    result: Path | None = None,
    repo_type: str = "model",
) -> str:
    """Fetches files of a repository; what is there already, or in the hub's own cache, is not fetched again.

    The token comes from the environment (HF_TOKEN) or from `hf auth login`.

    Args:
        repository: "owner/name".
        revision: commit, branch or tag; None takes the newest.
        choose: the names to fetch, of all names.
        directory: to fetch into: a directory in it that is named after the commit, which is returned.
        result: where the bytes will be written once more, on the same disk, for the check of its room.
        repo_type: "model" or "dataset".

    Raises:
        UserError: no access, no such repository or revision, nothing to choose, no connection, too little room,
            another process that fetches into this directory, or bytes that are not those of the hub.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise StorageError(
            "downloading needs the package huggingface-hub; install it with pip install -e '.[datasets]'"
        ) from error
    page = f"https://huggingface.co/{'datasets/' * (repo_type == 'dataset')}{repository}"
    advice = "check the connection, or give files that you have with --from"
    with _errors_as_sentences(repository, page, revision, "cannot be looked up", advice):
        info = hub.HfApi().repo_info(repository, revision=revision, repo_type=repo_type)
        names = choose([file.rfilename for file in info.siblings])
        if not names:
            raise StorageError(f"{repository}: holds none of the files that are needed at revision {info.sha}")
        headers = hub.utils.build_hf_headers()
        files = []
        for name in names:
            url = hub.hf_hub_url(repository, name, revision=info.sha, repo_type=repo_type)
            metadata = hub.get_hf_file_metadata(url, headers=headers)
            cached = hub.try_to_load_from_cache(repository, name, revision=info.sha, repo_type=repo_type)
            cached = cached if isinstance(cached, str) else None  # or a mark that the hub has no such file
            files.append(RemoteFile(name, url, metadata.size or 0, metadata.etag or "", cached))
    commit = directory / info.sha
    missing = [file for file in files if not (commit / file.name).exists()]
    parts = [commit / f"{file.name}.incomplete" for file in missing if not file.cached]
    arriving = sum(file.size for file in missing if not file.cached)
    arriving -= sum(part.stat().st_size for part in parts if part.exists())
    copied = sum(file.size for file in files) - _bytes_in(result) if result else 0
    check_room(directory, arriving + max(copied, 0), "{:.2f} GB are needed, download and result together")
    print(f"{repository} at {info.sha}: {len(files)} files, {arriving / 1e9:.2f} GB to fetch into {commit}")
    directory.mkdir(parents=True, exist_ok=True)
    stopped, advice = f"the download into {commit} stopped", "the same command continues where it was"
    with (
        FileLock(directory / "lock", f"the download into {directory}", "wait until it has ended"),
        _errors_as_sentences(repository, page, revision, stopped, advice),
    ):
        for file in missing:
            if not (commit / file.name).exists():  # as it may since another process had the lock
                fetch(file, commit, headers)
    return info.sha


def fetch(remote: RemoteFile, directory: Path, headers: dict[str, str]) -> None:
    """Fetches one file, complete under its name or as much of it as has come under another.

    Raises:
        StorageError: the bytes are not those of the hub.
    """
    from huggingface_hub.file_download import http_get

    path, incomplete = directory / remote.name, directory / f"{remote.name}.incomplete"
    path.parent.mkdir(parents=True, exist_ok=True)
    if remote.cached:
        path.unlink(missing_ok=True)  # a link into a cache that was emptied since
        path.symlink_to(Path(remote.cached).resolve())
        return
    with open(incomplete, "ab") as file:
        start = file.tell() if file.tell() <= remote.size else file.truncate(0)
        http_get(remote.url, file, resume_size=start, headers=headers, expected_size=remote.size)
        file.flush()
        os.fsync(file.fileno())
    if not _is_whole(incomplete, remote):
        incomplete.unlink()
        raise StorageError(f"{remote.name}: what arrived does not have the hub's digest; give the command again")
    os.replace(incomplete, path)


def choose_files(files: list[str], folder: str) -> list[str]:
    """The files to fetch of those that a repository holds: weights in the first format there is, config, tokenizer."""
    prefix = f"{folder}/" if folder else ""
    inside = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    for pattern in _WEIGHTS:
        if weights := [name for name in inside if re.fullmatch(pattern, name)]:
            others = [name for name in inside if re.fullmatch(_OTHERS, name)]
            shared = ["tokenizer.model"] if folder and "tokenizer.model" in files else []
            return sorted([prefix + name for name in weights + others] + shared)
    return []


def _bytes_in(directory: Path) -> int:
    """What a stopped set-up takes of the disk, in blocks: its files have their final sizes from the start."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_blocks * 512 for path in files)


def _is_whole(path: Path, remote: RemoteFile) -> bool:
    """Whether a file's digest is that of the hub."""
    if re.fullmatch(r"[0-9a-f]{64}", remote.etag):
        return sha256_of(path) == remote.etag
    if re.fullmatch(r"[0-9a-f]{40}", remote.etag):
        return hashlib.sha1(b"blob %d\0" % remote.size + path.read_bytes()).hexdigest() == remote.etag
    return True


@contextlib.contextmanager
def _errors_as_sentences(repository: str, page: str, revision: str | None, what: str, advice: str) -> Iterator[None]:
    """Turns what the hub's client raises into sentences; `what` happened, and the `advice`, where nobody refused."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise StorageError(
            f"{repository}: access is granted on request only; accept its licence at {page}, then set HF_TOKEN to a "
            "token of that account"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise StorageError(
            f"{repository}: has no revision {shown(revision)}; give a commit, branch or tag of it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise StorageError(
            f"{repository}: there is no such repository, or it is private; check the name, or set HF_TOKEN to a token "
            "that may read it"
        ) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:  # The first is the HTTP client's own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{repository}: {what} ({reason[:200]}); {advice}") from error
