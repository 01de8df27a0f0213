"""What a run needs and does not have, or cannot use, with the command that gets it."""

from collections.abc import Mapping
from pathlib import Path

from converters.checkpoint import open_checkpoint
from wmtp_jax.data import load_tokenizer, read_records
from wmtp_jax.errors import UserError
from wmtp_jax.storage.assets import DATASETS, MODELS, resolve
from wmtp_jax.storage.catalogue import CATALOGUE, KNOWN_DATASETS

_COMMAND = "python -m wmtp_jax.storage"
# How a run opens what these fields name, without reading all of it; of others only the path is checked.
_OPEN = {
    **dict.fromkeys(("model.path", "critic.model", "rho1.reference", "data.reward_model"), open_checkpoint),
    **dict.fromkeys(("data.train", "data.valid"), lambda path: next(read_records(path))),
    "model.tokenizer": load_tokenizer,
}


def missing_assets(paths: Mapping[str, str]) -> str:
    """A list for a person of the config fields whose path does not exist, or cannot be used, and what to do.

    `paths` are the paths that the fields hold.
    """
    missing, unusable = [], []
    for field, path in paths.items():
        if not resolve(path).exists():
            missing += [f"  config.{field} = {path}", f"      {how_to_get(path, field)}"]
            continue
        try:
            _OPEN.get(field, str)(resolve(path))
        except UserError as error:
            unusable += [f"  config.{field} = {path}", f"      {str(error).partition(chr(10))[0]}"]
    parts = [["missing:", *missing]] * bool(missing) + [["cannot be used:", *unusable]] * bool(unusable)
    return "\n".join(line for part in parts for line in part) or "nothing is missing"


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
    return f"{'HF_TOKEN=... ' if model.gated else ''}{_COMMAND} models {name} --download"


def _data_set(name: str) -> str:
    known = name.removesuffix("-small")
    if known not in KNOWN_DATASETS:
        return ""
    source = "" if known in ("microcode", "humaneval") else " --download"
    return f"{_COMMAND} datasets {known}{source}{' --small' if known != name else ''}"
