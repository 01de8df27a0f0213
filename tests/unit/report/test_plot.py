"""The plots: what is drawn, at any length, with any text, and nothing left behind."""

import math

import matplotlib.figure
import pytest

from wmtp_jax.report import loss_plot, plot, solution_plot

PNG = b"\x89PNG\r\n\x1a\n"


def assert_one_png(path):
    assert path.read_bytes().startswith(PNG)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_curves_are_those_of_the_heads():
    metrics = [{"step": 0, "valid/loss_head_1": 2.0, "valid/loss_head_2": 3.0}] + [
        {"step": step, "loss": 2.5, "loss_head_1": 2 / step, "loss_head_2": None if step == 3 else 3 / step}
        for step in range(1, 20)
    ]
    curves = plot.curves(metrics)
    assert sorted(curves) == [(False, 1), (False, 2), (True, 1), (True, 2)]
    assert curves[True, 2] == [(0, 3.0)]
    assert curves[False, 1] == [(step, 2 / step) for step in range(1, 20)]
    assert [step for step, _ in curves[False, 2]] == [1, 2, *range(4, 20)]  # the NaN is left out


def test_running_mean_by_hand():
    assert plot.running_mean((2.0, 4.0, 6.0, 0.0), 2) == [2.0, 3.0, 5.0, 3.0]


@pytest.mark.parametrize("steps", [0, 1, 400])
def test_loss_plot_of_any_length(tmp_path, steps):
    loss_plot([{"step": step, "loss_head_1": 1.0} for step in range(steps)], tmp_path / "loss.png")
    assert_one_png(tmp_path / "loss.png")


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
    assert_one_png(tmp_path / "a.png")
    assert [axes.get_ylabel() for axes in drawn] == ["value", "advantage", "weight"]
    labels = [label.get_text() for label in drawn[-1].get_xticklabels()]
    assert labels == ["def", "·f", "$x$", "↵", "a_name_far_…", "<s>"]
    assert list(drawn[0].lines[0].get_ydata())[:5] == values[:5]
    assert [bar.get_height() for bar in drawn[-1].patches][1:] == weights[1:]


@pytest.mark.parametrize(("n", "lines"), [(1, 1), (48, 1), (49, 2), (130, 3)])
def test_long_solutions_are_broken_into_lines_of_one_scale(tmp_path, drawn, n, lines):
    solution_plot(["x"] * n, tmp_path / "a.png", weights=[i / n for i in range(n)])
    assert len(drawn) == lines
    assert sum(len(axes.patches) for axes in drawn) == n
    assert {axes.get_ylim() for axes in drawn} == {drawn[0].get_ylim()}
