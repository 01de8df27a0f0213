"""What a run needs and does not have, with the command that gets it."""

from collections.abc import Mapping
from pathlib import Path

from wmtp_jax.storage.catalogue import CATALOGUE, KNOWN_DATASETS
from wmtp_jax.storage.paths import DATASETS, MODELS, resolve

_COMMAND = "python -m wmtp_jax.storage"


def missing_assets(paths: Mapping[str, str]) -> str:
    """A list for a person.

    Args:
        paths: config field -> the path that it holds.

    Returns:
        One line per field whose path is nowhere, below it the command that makes it be there.
    """
    lines = []
    for field, path in paths.items():
        if not resolve(path).exists():
            lines += [f"  config.{field} = {path}", f"      {how_to_get(path, field)}"]
    return "\n".join(["missing:", *lines]) if lines else "nothing is missing"


def how_to_get(path: str, field: str) -> str:
    """The command that sets up an asset under storage/; of any other path how to name one that exists."""
    parts = Path(path).parts
    for kind in (MODELS, DATASETS):
        if kind in parts[:-1]:
            name, storage = parts[parts.index(kind) + 1], Path(*parts[: parts.index(kind)])
            command = _model(name) if kind == MODELS else _data_set(name)
            if command:
                return command + ("" if storage == Path("storage") else f" --storage {storage}")
    return f"give one that exists: --config.{field}=PATH"


def _model(name: str) -> str:
    model = CATALOGUE.get(name)
    if model is None:
        return f"{_COMMAND} models {name} --from DIR"
    if not model.repository:
        return f"git checkout -- storage/{MODELS}/{name}"
    if model.gated:
        return f"HF_TOKEN=... {_COMMAND} models {name} --download"
    return f"{_COMMAND} models {name} --download"


def _data_set(name: str) -> str:
    known = name.removesuffix("-small")
    if known not in KNOWN_DATASETS:
        return ""
    source = "" if known in ("microcode", "humaneval") else " --download"
    return f"{_COMMAND} datasets {known}{source}{' --small' if known != name else ''}"
