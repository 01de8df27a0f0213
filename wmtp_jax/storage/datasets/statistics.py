"""What a data set consists of: counts and distributions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_QUANTILES = {"min": 0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1}
_BINS, _FEW_BINS = 40, 16


def split_statistics(
    *, tokens: np.ndarray, characters: np.ndarray, labels: np.ndarray, difficulties: Mapping[str, int]
) -> dict[str, Any]:
    """Describes one split.

    Args:
        tokens: int32 [n], BOS, instruction, input, output and EOS of each record.
        characters: int32 [n], of instruction, input and output.
        labels: int64 [problems, 2], correct and incorrect solutions of each problem.
        difficulties: Problems of each difficulty; "" stands for none.

    Returns:
        For JSON.
    """
    return {
        "tokens": _distribution(tokens),
        "characters": _distribution(characters),
        "correct_per_problem": _distribution(labels[:, 0], _FEW_BINS),
        "incorrect_per_problem": _distribution(labels[:, 1], _FEW_BINS),
        "problems_with_both_labels": int(np.sum((labels > 0).all(axis=1))),
        "problems_of_difficulty": {name or "none": count for name, count in sorted(difficulties.items())},
    }


def write_statistics(path: Path, statistics: Mapping[str, Any]) -> None:
    """Writes statistics.json."""
    path.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")


def _distribution(values: np.ndarray, bins: int = _BINS) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=bins, range=(0, max(int(values.max()), 1)))
    return {
        "mean": round(float(values.mean()), 3),
        **{name: round(float(np.quantile(values, share)), 1) for name, share in _QUANTILES.items()},
        "histogram": {"edges": edges.round(3).tolist(), "counts": counts.tolist()},
    }
