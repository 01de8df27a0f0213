"""Plot and page: what is drawn, and that nothing outside the file is needed."""

import base64
import html.parser
import re
import subprocess
import sys

import pytest

from wmtp_jax.report import loss_plot, plot, write_report
from wmtp_jax.training.run_directory import open_run_directory

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = [("loss <head>", 2.0, 0.5, "lower"), ("pass@1", 0.4, 0.3, "higher")]


@pytest.fixture
def run(tmp_path):
    with open_run_directory(tmp_path, "a&b", {"model": {"path": "<none>"}, "buckets": (64, 96)}) as path:
        return path


METRICS = [{"step": 0, "valid/loss_head_1": 2.0, "valid/loss_head_2": 3.0}] + [
    {"step": step, "loss": 2.5, "loss_head_1": 2 / step, "loss_head_2": None if step == 3 else 3 / step}
    for step in range(1, 20)
]


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.links = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_curves_are_those_of_the_heads():
    curves = plot.curves(METRICS)
    assert sorted(curves) == [(False, 1), (False, 2), (True, 1), (True, 2)]
    assert curves[True, 2] == [(0, 3.0)]
    assert curves[False, 1] == [(step, 2 / step) for step in range(1, 20)]
    assert [step for step, _ in curves[False, 2]] == [1, 2, *range(4, 20)]  # the NaN is left out


def test_running_mean_by_hand():
    assert plot.running_mean((2.0, 4.0, 6.0, 0.0), 2) == [2.0, 3.0, 5.0, 3.0]


@pytest.mark.parametrize("steps", [0, 1, 400])
def test_plot_of_any_length(tmp_path, steps):
    loss_plot([{"step": step, "loss_head_1": 1.0} for step in range(steps)], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png"]


def test_page_is_whole_and_stands_alone(run, tmp_path):
    path = write_report(run, ROWS, METRICS, tmp_path / "model")
    assert path == run / "report.html"
    source = path.read_text(encoding="utf-8")
    page = _Page(source)
    assert page.open == []
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert base64.b64decode(page.links[0].split(",")[1]) == (run / "loss.png").read_bytes()
    for text in (
        "a&b",
        "loss <head>",
        "-1.500",
        "improved",
        "worse",
        "model.path",
        "<none>",
        "[64, 96]",
        "packages.jax",
    ):
        assert text in page.text, text
    assert str(tmp_path / "model") in page.text
    assert re.search(r"\d+ CPU cores|\d+ x ", page.text)


def test_matplotlib_is_imported_only_to_draw():
    subprocess.run(
        [sys.executable, "-c", "import wmtp_jax.report, sys; assert 'matplotlib' not in sys.modules"], check=True
    )
