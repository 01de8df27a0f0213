"""Our own layout: model_config.json and one tensor per leaf of the param tree, named by its dotted path."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.layout import Layout, Place
from converters.slots import PLAIN, TRANSPOSED, Slot
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling

_FORMAT = "wmtp-jax 1"


def _place(_config: ModelConfig, slot: Slot) -> Place:
    plain = slot.leaf.endswith((".embedding", ".scale"))
    return Place(slot.leaf, PLAIN if plain else TRANSPOSED, slot.layer)


def _read_config(record: dict, where: str, _shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool]:
    if record.get("format") != _FORMAT or not isinstance(record.get("model"), dict):
        raise ConverterError(
            f"{where}: its format is {record.get('format')!r}; expected {_FORMAT!r} and a 'model' object"
        )
    model = dict(record["model"])
    if isinstance(model.get("rope_scaling"), dict):
        model["rope_scaling"] = _typed(RopeScaling, model["rope_scaling"], where)
    config = _typed(ModelConfig, model, where)
    return config, config.tie_embeddings


def _typed(kind, values: dict, where: str):
    """The dataclass with these values, each of its declared type."""
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in types or not isinstance(value, types[name]):
            raise ConverterError(
                f"{where}: the field {name!r} is {value!r}; expected {types.get(name, 'no such field')}"
            )
    try:
        return kind(**values)
    except (TypeError, ModelConfigError) as error:
        raise ConverterError(f"{where}: {error}") from error


def _write_config(config: ModelConfig, base: dict, _dtype: str, _equal_output: bool) -> dict[str, Any]:
    return {**base, "format": _FORMAT, "model": dataclasses.asdict(config)}


TREE = Layout(
    name="flax",
    title="Flax tree",
    config_names=("model_config.json",),
    weight_names=("params.safetensors.index.json", "params.safetensors"),
    stem="params",
    keeps_leaves=True,
    tied_name=None,
    writes_tied_copy=False,
    ignored=re.compile(r"(?!)"),
    place=_place,
    read_config=_read_config,
    write_config=_write_config,
)
