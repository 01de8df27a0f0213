"""The plot of one solution: any length, any text, nothing left behind."""

import math

import matplotlib.figure
import pytest

from wmtp_jax.report import solution_plot

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure that is saved."""
    axes, save = [], matplotlib.figure.Figure.savefig

    def keep(figure, *arguments, **options):
        axes.extend(figure.axes)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return axes


def test_every_token_has_its_text_value_and_weight(tmp_path, drawn):
    texts = ["def", " f", "$x$", "\n", "a_name_far_too_long", "<s>"]
    values, weights = [0.5, 0.6, 0.1, 0.2, 0.9, math.nan], [math.nan, 2.0, 0.5, 1.0, 1.5, 0.0]
    solution_plot(texts, tmp_path / "a.png", weights=weights, values=values, advantages=[0.1] * 6, title="$1$ & <2>")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert [axes.get_ylabel() for axes in drawn] == ["value", "advantage", "weight"]
    assert [label.get_text() for label in drawn[-1].get_xticklabels()] == [
        *("def", "·f", "$x$", "↵", "a_name_far_…", "<s>")
    ]
    assert list(drawn[0].lines[0].get_ydata())[:5] == values[:5]
    assert [bar.get_height() for bar in drawn[-1].patches][1:] == weights[1:]


@pytest.mark.parametrize(("n", "lines"), [(1, 1), (48, 1), (49, 2), (130, 3)])
def test_long_solutions_are_broken_into_lines_of_one_scale(tmp_path, drawn, n, lines):
    solution_plot(["x"] * n, tmp_path / "a.png", weights=[i / n for i in range(n)])
    assert len(drawn) == lines
    assert sum(len(axes.patches) for axes in drawn) == n
    assert {axes.get_ylim() for axes in drawn} == {drawn[0].get_ylim()}
