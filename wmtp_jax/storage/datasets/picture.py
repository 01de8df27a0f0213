"""The statistics of a data set as one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COLORS = {"train": "#2a6f97", "valid": "#e09f3e", "test": "#9e2a2b"}
_PANELS = (
    ("tokens", "tokens per record", "share of records"),
    ("characters", "characters per record", "share of records"),
    ("correct_per_problem", "correct solutions per problem", "share of problems"),
    ("incorrect_per_problem", "incorrect solutions per problem", "share of problems"),
)


def draw_statistics(path: Path, statistics: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws the distributions of every split, and how many problems have which difficulty.

    Args:
        path: Of the PNG.
        statistics: Split -> `split_statistics`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), dpi=100)
    grid = figure.subplots(2, 3)
    for axes, (name, title, what) in zip(grid.flat, _PANELS, strict=False):
        for split, of_split in statistics.items():
            histogram = of_split[name]["histogram"]
            total = sum(histogram["counts"])
            shares = [count / total for count in histogram["counts"]]
            axes.stairs(shares, histogram["edges"], color=_COLORS[split], lw=1.6)
            axes.axvline(of_split[name]["median"], color=_COLORS[split], lw=1, ls=":")
        axes.set(xlabel=title, ylabel=what, xlim=(0, None), ylim=(0, None))
    _draw_difficulties(grid.flat[4], statistics)
    _draw_counts(grid.flat[5], statistics)
    for axes in grid.flat[:5]:
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.15, top=0.98, wspace=0.3, hspace=0.25)
    figure.savefig(path, format="png", metadata={"Software": None})


def _draw_difficulties(axes, statistics) -> None:
    names = list(dict.fromkeys(name for split in statistics.values() for name in split["problems_of_difficulty"]))
    width = 0.8 / len(statistics)
    for i, (split, of_split) in enumerate(statistics.items()):
        counts = [of_split["problems_of_difficulty"].get(name, 0) for name in names]
        total = sum(counts)
        places = [place - 0.4 + (i + 0.5) * width for place in range(len(names))]
        axes.bar(places, [count / total for count in counts], width, color=_COLORS[split])
    many = len(names) > 6
    axes.set_xticks(range(len(names)), names, rotation=90 if many else 0, fontsize=7 if many else None)
    axes.set(xlabel="difficulty", ylabel="share of problems")


def _draw_counts(axes, statistics) -> None:
    axes.axis("off")
    axes.set_title("dotted lines: medians", y=0.08, fontsize=9)
    cells = [
        [f"{of_split[name]:,}" for name in ("problems", "programs", "correct", "incorrect")]
        for of_split in statistics.values()
    ]
    table = axes.table(
        cells, rowLabels=list(statistics), colLabels=["problems", "programs", "correct", "incorrect"], loc="center"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.6)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        if column == -1:
            cell.set_text_props(color=_COLORS[list(statistics)[row - 1]], weight="bold")
