"""Fetches the files of a data set from the Hugging Face hub, into the hub's own cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wmtp_jax.storage.errors import StorageError
from wmtp_jax.storage.hub import sentences


class Snapshot(NamedTuple):
    """What was fetched: a directory, and the commit of the repository."""

    directory: Path
    revision: str


def download(repository: str, patterns: Sequence[str], revision: str | None) -> Snapshot:
    """Fetches the files of a data set; what is in the cache is not fetched again, and what was stopped goes on.

    Args:
        repository: "owner/name".
        patterns: Which of its files.
        revision: Commit, branch or tag; None takes the newest.

    Raises:
        StorageError: No access, no such repository or revision, or no connection.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise StorageError(
            "downloading needs the package huggingface-hub; install it with pip install -e '.[datasets]'"
        ) from error
    with sentences(repository, revision):
        commit = huggingface_hub.HfApi().dataset_info(repository, revision=revision).sha
        directory = huggingface_hub.snapshot_download(
            repository, repo_type="dataset", revision=commit, allow_patterns=list(patterns)
        )
    return Snapshot(Path(directory), commit)
