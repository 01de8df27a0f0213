"""The plots: the loss of every head over a run, and what a critic thinks of one solution, token by token."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wmtp_jax.files import atomic_file

_HEAD_LOSS = re.compile(r"(valid/)?loss_head_(\d+)")
_MANY_POINTS = 150
_TOKENS_PER_LINE, _LONGEST_TEXT = 48, 12
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#999999"  # told apart by every kind of colour vision
_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→"})


def loss_plot(metrics: Sequence[Mapping[str, Any]], out_png: Path) -> None:
    """Draws training loss (lines) and validation loss (dots) of every head from the entries of a metrics.jsonl.

    Long runs show the running mean over their measurements, which stand behind it in a lighter tone.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    points_of = curves(metrics)
    heads = sorted({head for _, head in points_of})
    figure = Figure(figsize=(8, 4.2), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    # Heads are ordered, so their colours are: dark for the next token, light for the farthest.
    colors = matplotlib.colormaps["viridis"]
    color_of = {head: colors(0.85 * i / max(1, len(heads) - 1)) for i, head in enumerate(heads)}
    for (valid, head), points in sorted(points_of.items()):
        steps, losses = zip(*points, strict=True)
        if valid:
            axes.plot(steps, losses, "o", ms=6, color=color_of[head], mec="white", mew=1.2, zorder=4, clip_on=False)
            continue
        if len(losses) > _MANY_POINTS:
            axes.plot(steps, losses, color=color_of[head], lw=0.8, alpha=0.2)
            losses = running_mean(losses, len(losses) // 50)
        axes.plot(steps, losses, color=color_of[head], lw=1.8)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    _soften(axes)
    names = {head: f"head {head}{' (next token)' if head == 1 else ''}" for head in heads}
    keys = [Line2D([], [], color=color_of[head], lw=2.5, label=name) for head, name in names.items()]
    keys.append(Line2D([], [], color="#666666", lw=1.8, label="training"))
    if any(valid for valid, _ in points_of):
        keys.append(Line2D([], [], color="#666666", marker="o", ls="", mec="white", ms=7, label="validation"))
    axes.legend(handles=keys, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, out_png)


def curves(metrics: Sequence[Mapping[str, Any]]) -> dict[tuple[bool, int], list[tuple[int, float]]]:
    """(validation, head) -> (step, loss) of every entry that has it."""
    points_of = {}
    for entry in metrics:
        for name, value in entry.items():
            if (match := _HEAD_LOSS.fullmatch(name)) and value is not None:
                points_of.setdefault((bool(match[1]), int(match[2])), []).append((entry["step"], value))
    return points_of


def running_mean(values: tuple[float, ...], width: int) -> list[float]:
    """Mean of the last `width` values at each position, of fewer at the beginning."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i] - sums[max(0, i - width)]) / min(i, width) for i in range(1, len(sums))]


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
    n_lines = math.ceil(len(texts) / _TOKENS_PER_LINE)
    per_line = math.ceil(len(texts) / n_lines)
    size = (1.6 + 0.2 * max(per_line, 20), n_lines * (0.8 + 1.1 * len(panels)))
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    grid = figure.subplots(n_lines * len(panels), 1, squeeze=False)[:, 0]
    for line in range(n_lines):
        first = line * per_line
        shown = range(first, min(first + per_line, len(texts)))
        rows = grid[line * len(panels) : (line + 1) * len(panels)]
        for axes, (name, numbers) in zip(rows, panels, strict=True):
            _draw(axes, name, shown, numbers)
            axes.set(ylabel=name, xlim=(first - 0.6, first + per_line - 0.4), ylim=_limits(name, numbers), xticks=[])
            _soften(axes)
        rows[-1].set_xticks(list(shown), [_label(texts[i]) for i in shown])
        for label in rows[-1].get_xticklabels():
            label.set(rotation=90, family="monospace", fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    _save(figure, out_png)


def _draw(axes, name: str, shown: range, numbers: list[float]) -> None:
    if name == "value":
        # The line enters from the token before, which may stand at the end of the line above.
        entered = range(max(0, shown[0] - 1), shown[-1] + 1)
        axes.plot(entered, [numbers[i] for i in entered], "o-", color=_BLUE, lw=1.4, ms=3.5)
        axes.axhline(0.5, color=_GREY, lw=0.8, ls=":")
        return
    middle = {"advantage": 0.0, "weight": 1.0}[name]
    heights = [numbers[i] for i in shown]
    axes.bar(shown, heights, color=[_BLUE if x >= middle else _ORANGE for x in heights], width=0.8)
    axes.axhline(middle, color=_GREY, lw=0.8, ls=":" if middle else "-")


def _label(text: str) -> str:
    text = text.translate(_VISIBLE)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _limits(name: str, numbers: list[float]) -> tuple[float, float]:
    """One scale for all lines of a solution."""
    if name == "value":
        return -0.05, 1.05
    finite = [0.0, *(x for x in numbers if math.isfinite(x))]
    low, high = min(finite), max(finite)
    room = 0.08 * (high - low) or 0.1
    return (low - room if low < 0 else 0.0), high + room


def _soften(axes) -> None:
    """Leaves two grey axes of the frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(color=_GREY)


def _save(figure, out_png: Path) -> None:
    with atomic_file(out_png) as file:
        figure.savefig(file, format="png")
