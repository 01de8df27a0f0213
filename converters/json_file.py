"""JSON files that are read strictly and written completely or not at all."""

import json
import math
import os
from pathlib import Path
from typing import Any

from converters.errors import ConverterError

_LARGEST = 64 * 2**20


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """One JSON object, without duplicate keys.

    Raises:
        ConverterError: not JSON, not an object, a key twice, or a number that JSON does not have.
    """

    def unique(pairs):
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConverterError(f"{where}: the key {twice!r} stands twice; each may stand once")
        return record

    def refuse(constant):
        raise ConverterError(f"{where}: holds {constant}, which is not a number of JSON")

    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        record = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ConverterError(f"{where}: is not JSON ({error}); restore the file from its source") from error
    if not isinstance(record, dict):
        raise ConverterError(f"{where}: holds a JSON {type(record).__name__}; expected an object")
    return record


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        ConverterError: no such file, too large to be a config, or not a JSON object.
    """
    if not path.is_file():
        raise ConverterError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST:
        raise ConverterError(f"{path}: is larger than {_LARGEST >> 20} MiB, so it is no config or index")
    return parse_object(path.read_bytes(), str(path))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes the object beside its destination, then moves it there."""
    write_bytes(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside the destination, syncs, then moves it there."""
    beside = path.with_name(path.name + ".writing")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


class Fields:
    """Typed reading of a config's fields; what is never asked for stays in `unread`."""

    def __init__(self, record: dict[str, Any], where: str):
        self.record, self.where, self.unread = record, where, set(record)

    def __contains__(self, name: str) -> bool:
        return self.record.get(name) is not None

    def integer(self, name: str, default: int | None = None) -> int | None:
        """An integer; absent or null gives the default."""
        value = self._value(name, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong(name, value, "an integer")
        return value

    def number(self, name: str, default: float | None = None) -> float | None:
        """A finite positive number as float; absent or null gives the default."""
        value = self._value(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise self._wrong(name, value, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        """True or false; absent or null gives the default."""
        value = self._value(name, default)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string; absent or null gives the default."""
        value = self._value(name, default)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def object(self, name: str) -> "Fields | None":
        """A nested object; absent or null gives None."""
        value = self._value(name, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return None if value is None else Fields(value, f"{self.where}, {name}")

    def required(self, name: str) -> int:
        """An integer that has to be there."""
        value = self.integer(name)
        if value is None:
            raise ConverterError(f"{self.where}: the field {name!r} is missing; expected an integer")
        return value

    def _value(self, name, default):
        self.unread.discard(name)
        value = self.record.get(name)
        return default if value is None else value

    def _wrong(self, name, value, expected):
        return ConverterError(f"{self.where}: the field {name!r} is {value!r}; expected {expected}")
