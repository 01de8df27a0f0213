"""Before and after, and whether that is good."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """One line of the closing table; a value that was not measured is NaN, "none" is for what is shown unjudged."""

    name: str
    before: float
    after: float
    better: Literal["lower", "higher", "none"]


_LEAST_SHARE = 0.005  # a smaller relative change is shown, and not judged
HEADER = ("measure", "before", "after", "change", "", "")


def closing_table(rows: Sequence[Measure]) -> str:
    """Aligned text: measure, before, after, change and its verdict."""
    cells = [HEADER, *map(table_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *numbers, verdict in cells:
        numbers = [text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *numbers, verdict]).rstrip())
    lines.insert(1, "─" * max(map(len, lines)))
    return "\n".join(lines)


def table_cells(row: Measure) -> tuple[str, str, str, str, str, str]:
    """The texts of one row: name, before, after, change, change in percent, and improved, worse or unchanged."""
    if row.better not in ("lower", "higher", "none"):
        raise ValueError(f"better is {row.better!r}; expected 'lower', 'higher' or 'none'")
    before, after = _number(row.before), _number(row.after)
    difference = row.after - row.before
    if not math.isfinite(difference):
        return row.name, before, after, "", "", "not comparable"
    if before == after:
        return row.name, before, after, _number(0.0), "", "unchanged"
    change = ("+" if difference > 0 else "") + _number(difference)
    share = f"{difference / abs(row.before):+.0%}" if row.before else ""
    if row.better == "none":
        verdict = ""
    elif abs(difference) < _LEAST_SHARE * abs(row.before):
        verdict = "unchanged"
    else:
        verdict = "improved" if (difference < 0) == (row.better == "lower") else "worse"
    return row.name, before, after, change, share, verdict


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.2e}"
