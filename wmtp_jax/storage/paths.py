"""Finds an asset named in a config."""

from pathlib import Path

MODELS = "models_v2"
DATASETS = "datasets_v2"
_PROJECT = Path(__file__).parents[2]


def resolve(path: str | Path) -> Path:
    """The path as given if it exists from the working directory, else from the project's root.

    A path that exists nowhere comes back as given, so that the reader's error names what the user wrote.
    """
    given = Path(path)
    from_project = _PROJECT / given
    return from_project if not given.exists() and from_project.exists() else given
