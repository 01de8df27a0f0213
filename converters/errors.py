"""The exception of this package, and tables of the tensors that do not fit, with layer numbers folded."""

import collections
import re
from collections.abc import Iterable, Mapping

from wmtp_jax.errors import UserError


class ConverterError(UserError):
    """A model on disk that cannot be read, written or trusted."""


def fold(names: Iterable[str]) -> list[str]:
    """Names that differ in one number only become one: layers.0.w, layers.1.w, layers.7.w -> layers.{0-1,7}.w."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        parts = re.split(r"(?<=\.)(\d+)(?=\.)", name, maxsplit=1)
        if len(parts) == 3 and len(parts[1]) < 10:
            numbers.setdefault((parts[0], parts[2]), []).append(int(parts[1]))
        else:
            numbers.setdefault((name, ""), [])
    return [before + _runs(found) + after for (before, after), found in numbers.items()]


def _runs(numbers: list[int]) -> str:
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def check_tensors(where: str, expected: Mapping[str, tuple], found: Mapping[str, tuple], explanation: str) -> None:
    """Raises ConverterError, with a table, unless every expected tensor is there in its shape and nothing else is.

    `where` they were found and the `explanation` of what is expected are parts of the message.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for name, shape in expected.items():
        if name not in found:
            rows.setdefault(("missing", str(list(shape))), []).append(name)
        elif tuple(found[name]) != tuple(shape):
            rows.setdefault(("misshaped", f"{list(found[name])}, expected {list(shape)}"), []).append(name)
    for name, shape in found.items():
        if name not in expected:
            rows.setdefault(("unexpected", str(list(shape))), []).append(name)
    if not rows:
        return
    counts = collections.Counter(kind for (kind, _), names in rows.items() for _ in names)
    lines = [(kind, name, shape) for (kind, shape), names in rows.items() for name in fold(names)]
    width = max(len(name) for _, name, _ in lines)
    table = "\n".join(f"  {kind:<10} {name:<{width}}  {shape}" for kind, name, shape in sorted(lines)[:60])
    summary = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
    raise ConverterError(f"{where}: tensors do not fit {explanation} ({summary}); correct one of the two:\n{table}")
