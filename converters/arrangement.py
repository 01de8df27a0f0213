"""Where the files of a model lie in its directory: side by side, or in folders as under storage/models_v2."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Folders of a model's directory, "." for the directory itself.

    Attributes:
        weights: of the weight files and their index.
        configs: of the config file.
        tokenizer: of the tokenizer's files.
    """

    weights: str
    configs: str
    tokenizer: str


FLAT = Arrangement(weights=".", configs=".", tokenizer=".")
FOLDERS = Arrangement(weights="safetensors", configs="configs", tokenizer="tokenizer")


def arrangement_of(directory: Path) -> Arrangement:
    """How an existing model directory is arranged."""
    in_folders = all((directory / folder).is_dir() for folder in (FOLDERS.weights, FOLDERS.configs))
    return FOLDERS if in_folders else FLAT
