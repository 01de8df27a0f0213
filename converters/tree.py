"""Our own layout: model_config.json and one tensor per leaf of the param tree, named by its dotted path."""

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.layout import Fields, Layout
from wmtp_jax.errors import shown
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling

_FORMAT = "wmtp-jax 1"


def _read_config(record: dict, where: str, _shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool]:
    if record.get("format") != _FORMAT or not isinstance(record.get("model"), dict):
        raise ConverterError(
            f"{where}: its format is {shown(record.get('format'))}; expected {_FORMAT!r} and a 'model' object"
        )
    config = _typed(ModelConfig, record["model"], f"{where}, model")
    return config, config.tie_embeddings


def _typed(kind: type, record: dict, where: str):
    """The dataclass with the values of the record, each of its declared type."""
    fields, values = Fields(record, where), {}
    for field in dataclasses.fields(kind):
        of_type, *optional = typing.get_args(field.type) or [field.type]
        value = fields.get(field.name, dict if of_type is RopeScaling else of_type)
        if of_type is RopeScaling and value is not None:
            value = _typed(RopeScaling, value, f"{where}, {field.name}")
        if value is not None or (optional and field.name in record):
            values[field.name] = value
    if fields.unread:
        raise ConverterError(f"{where}: the field {shown(min(fields.unread))} is unknown; remove it")
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
    table={},
    block=None,
    tied_name=None,
    writes_tied_copy=False,
    ignored=re.compile(r"(?!)"),
    read_config=_read_config,
    write_config=_write_config,
)
