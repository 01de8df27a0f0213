"""The loss of every head over the run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wmtp_jax.files import atomic_file

_HEAD_LOSS = re.compile(r"(valid/)?loss_head_(\d+)")
_MANY_POINTS = 150


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
        elif len(losses) > _MANY_POINTS:
            axes.plot(steps, losses, color=color_of[head], lw=0.8, alpha=0.2)
            axes.plot(steps, running_mean(losses, len(losses) // 50), color=color_of[head], lw=1.8)
        else:
            axes.plot(steps, losses, color=color_of[head], lw=1.8)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(color="#999999")
    keys = [Line2D([], [], color=color_of[head], lw=2.5, label=_head_name(head)) for head in heads]
    keys.append(Line2D([], [], color="#666666", lw=1.8, label="training"))
    if any(valid for valid, _ in points_of):
        keys.append(Line2D([], [], color="#666666", marker="o", ls="", mec="white", ms=7, label="validation"))
    axes.legend(handles=keys, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    with atomic_file(out_png) as file:
        figure.savefig(file, format="png")


def curves(metrics: Sequence[Mapping[str, Any]]) -> dict[tuple[bool, int], list[tuple[int, float]]]:
    """(validation, head) -> (step, loss) of every entry that has it."""
    points_of = {}
    for entry in metrics:
        for name, value in entry.items():
            if (match := _HEAD_LOSS.fullmatch(name)) and value is not None:
                points_of.setdefault((bool(match[1]), int(match[2])), []).append((entry["step"], value))
    return points_of


def running_mean(values: tuple[float, ...], width: int) -> list[float]:
    """Mean of the last `width` values at each position."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i] - sums[max(0, i - width)]) / min(i, width) for i in range(1, len(sums))]


def _head_name(head: int) -> str:
    return "head 1 (next token)" if head == 1 else f"head {head}"
