"""The page: whole, and nothing outside the file is needed."""

import base64
import html.parser
import re

from wmtp_jax.report import Measure, write_report
from wmtp_jax.training.run_directory import open_run_directory

ROWS = [Measure("loss <head>", 2.0, 0.5, "lower"), Measure("pass@1", 0.4, 0.3, "higher")]


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


def test_page_is_whole_and_stands_alone(tmp_path):
    with open_run_directory(tmp_path, "a&b", {"model": {"path": "<none>"}, "buckets": (64, 96)}) as run:
        path = write_report(run, ROWS, [{"step": 1, "loss_head_1": 2.0}], tmp_path / "model")
    assert path == run / "report.html"
    page = _Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert base64.b64decode(page.links[0].split(",")[1]) == (run / "loss.png").read_bytes()
    shown = ["a&b", "loss <head>", "-1.500", "improved", "worse", str(tmp_path / "model")]
    shown += ["model.path", "<none>", "[64, 96]", "packages.jax"]
    assert [text for text in shown if text not in page.text] == []
    assert re.search(r"\d+ CPU cores|\d+ x ", page.text)
