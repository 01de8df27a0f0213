"""What a data set consists of: counts and distributions, as JSON and as a figure."""

import collections
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wmtp_jax.storage.datasets.records import ProblemCounts

_QUANTILES = {"min": 0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1}
_BINS, _FEW_BINS = 40, 16
COUNTS = ("problems", "programs", "correct", "incorrect")
_COLORS = {"train": "#2a6f97", "valid": "#e09f3e", "test": "#9e2a2b"}
_PANELS = (
    ("tokens", "tokens per record", "share of records"),
    ("characters", "characters per record", "share of records"),
    ("correct_per_problem", "correct solutions per problem", "share of problems"),
    ("incorrect_per_problem", "incorrect solutions per problem", "share of problems"),
)


def split_statistics(solutions: Mapping[str, int], problems: Sequence[ProblemCounts]) -> dict[str, Any]:
    """Counts and distributions of one split, for JSON; it has at least one record."""
    labels = np.array([(problem.correct, problem.incorrect) for problem in problems])
    correct, incorrect = map(int, labels.sum(axis=0))
    difficulties = collections.Counter(problem.difficulty for problem in problems)
    return {
        "problems": len(labels),
        "programs": correct + incorrect,
        "correct": correct,
        "incorrect": incorrect,
        "source_solutions": solutions["solutions"],
        "left_out": {reason: solutions[reason] for reason in sorted(solutions) if reason != "solutions"},
        "tokens": _distribution(np.concatenate([problem.tokens for problem in problems])),
        "characters": _distribution(np.concatenate([problem.characters for problem in problems])),
        "correct_per_problem": _distribution(labels[:, 0], _FEW_BINS),
        "incorrect_per_problem": _distribution(labels[:, 1], _FEW_BINS),
        "problems_with_both_labels": int(np.sum((labels > 0).all(axis=1))),
        "problems_of_difficulty": {name or "none": count for name, count in sorted(difficulties.items())},
    }


def draw_statistics(statistics: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A PNG: the distributions of every split, how many problems are how hard, and a table of counts."""
    from matplotlib.figure import Figure  # takes half a second

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
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _distribution(values: np.ndarray, bins: int = _BINS) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=bins, range=(0, max(int(values.max()), 1)))
    return {
        "mean": round(float(values.mean()), 3),
        **{name: round(float(np.quantile(values, share)), 1) for name, share in _QUANTILES.items()},
        "histogram": {"edges": edges.round(3).tolist(), "counts": counts.tolist()},
    }


def _draw_difficulties(axes, statistics) -> None:
    names = list(dict.fromkeys(name for split in statistics.values() for name in split["problems_of_difficulty"]))
    width = 0.8 / len(statistics)
    for i, (split, of_split) in enumerate(statistics.items()):
        counts = [of_split["problems_of_difficulty"].get(name, 0) for name in names]
        total = sum(counts)
        centres = [position - 0.4 + (i + 0.5) * width for position in range(len(names))]
        axes.bar(centres, [count / total for count in counts], width, color=_COLORS[split])
    many = len(names) > 6
    axes.set_xticks(range(len(names)), names, rotation=90 if many else 0, fontsize=7 if many else None)
    axes.set(xlabel="difficulty", ylabel="share of problems")


def _draw_counts(axes, statistics) -> None:
    axes.axis("off")
    axes.set_title("dotted lines: medians", y=0.08, fontsize=9)
    cells = [[f"{of_split[name]:,}" for name in COUNTS] for of_split in statistics.values()]
    table = axes.table(cells, rowLabels=list(statistics), colLabels=COUNTS, loc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.6)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        if column == -1:
            cell.set_text_props(color=_COLORS[list(statistics)[row - 1]], weight="bold")
