"""One solution, token by token: what the critic thinks after each, and what each counts in training."""

import math
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax.files import atomic_file

_TOKENS_PER_LINE, _LONGEST_TEXT = 48, 12
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#999999"  # told apart by every kind of colour vision
_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→"})


def solution_plot(
    texts: Sequence[str],
    out_png: Path,
    *,
    weights: Sequence[float],
    values: Sequence[float] | None = None,
    advantages: Sequence[float] | None = None,
    title: str = "",
) -> None:
    """Draws value, advantage and weight of every token; long solutions are broken into lines.

    All sequences have one entry per token; NaN draws nothing, as for the weight of a prompt token or the value after
    the last one.

    Args:
        texts: of the tokens; spaces and line ends are made visible.
        out_png: the file; it appears complete or not at all.
        weights: of each target token; 1 is the average.
        values: V_t, the probability of a correct solution after reading token t; None without a critic.
        advantages: of each target token; None without a critic.
        title: above the plot.
    """
    from matplotlib.figure import Figure

    kinds = [("value", values), ("advantage", advantages), ("weight", weights)]
    panels = [(name, [float(x) for x in numbers]) for name, numbers in kinds if numbers is not None]
    limits = {name: _limits(name, numbers) for name, numbers in panels}
    n_lines = math.ceil(len(texts) / _TOKENS_PER_LINE)
    per_line = math.ceil(len(texts) / n_lines)
    figure = Figure(figsize=(1.6 + 0.2 * max(per_line, 20), n_lines * (0.8 + 1.1 * len(panels))), dpi=160)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(n_lines * len(panels), 1, squeeze=False)[:, 0]
    for line in range(n_lines):
        first = line * per_line
        shown = range(first, min(first + per_line, len(texts)))
        rows = grid[line * len(panels) : (line + 1) * len(panels)]
        for axes, (name, numbers) in zip(rows, panels, strict=True):
            _draw(axes, name, shown, numbers)
            axes.set_ylim(*limits[name])
            axes.set_xlim(first - 0.6, first + per_line - 0.4)
            axes.set_xticks([])
        rows[-1].set_xticks(list(shown), [_label(texts[i]) for i in shown])
        for label in rows[-1].get_xticklabels():
            label.set(rotation=90, family="monospace", fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    with atomic_file(out_png) as file:
        figure.savefig(file, format="png")


def _draw(axes, name: str, shown: range, numbers: list[float]) -> None:
    at, here = list(shown), [numbers[i] for i in shown]
    if name == "value":
        # The line enters from the token before, which may stand at the end of the line above.
        start = [] if shown[0] == 0 else [shown[0] - 1]
        axes.plot(start + at, [numbers[i] for i in start] + here, "o-", color=_BLUE, lw=1.4, ms=3.5)
        axes.axhline(0.5, color=_GREY, lw=0.8, ls=":")
    elif name == "advantage":
        axes.bar(at, here, color=[_BLUE if x >= 0 else _ORANGE for x in here], width=0.8)
        axes.axhline(0.0, color=_GREY, lw=0.8)
    else:
        axes.bar(at, here, color=[_BLUE if x >= 1 else _ORANGE for x in here], width=0.8)
        axes.axhline(1.0, color=_GREY, lw=0.8, ls=":")
    axes.set_ylabel(name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(color=_GREY)


def _label(text: str) -> str:
    text = text.translate(_VISIBLE)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _limits(name: str, numbers: list[float]) -> tuple[float, float]:
    """One scale for all lines of a solution."""
    finite = [x for x in numbers if math.isfinite(x)] or [0.0]
    if name == "value":
        return -0.05, 1.05
    low, high = min(0.0, *finite), max(0.0, *finite)
    room = 0.08 * (high - low) or 0.1
    return (low - room if low < 0 else 0.0), high + room
