"""The line a person watches."""

import io
import re

import pytest

from wmtp_jax.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return _Clock()


def _steps(total, stream, clock, **settings):
    return Progress(total, "step", rate="tokens", compiles=True, stream=stream, clock=clock, **settings)


def _run(progress, clock, steps, seconds=2.0):
    for step in steps:
        clock.now += seconds
        progress.update(step, "loss 1.250", work=1000, peak_seconds=0.4)


def test_line_by_hand(clock):
    """Two seconds a step: 500 tokens/s; 0.4 s of work at the peak in 2 s: 20 %; 38 steps left: 76 s."""
    stream = io.StringIO()
    _run(_steps(40, stream, clock, interval_s=0), clock, [1, 2])
    assert stream.getvalue().splitlines() == [
        "step  1/40  loss 1.250",
        "step  2/40  loss 1.250  500 tokens/s  20% of matmul peak  ETA 1:16",
    ]


def test_amounts_with_a_unit(clock):
    """10 of 100 MB need no work, 20 more take a second: 20 MB/s, and 3.5 s for the other 70."""
    stream = io.StringIO()
    progress = Progress(100, "verify", unit="MB", rate="MB", stream=stream, interval_s=0, clock=clock)
    progress.skip(10)
    clock.now += 1
    progress.advance(20)
    assert stream.getvalue() == "verify  30/100 MB  20 MB/s  ETA 0:04\n"


def test_log_has_plain_lines_every_few_seconds_and_the_last_step(clock):
    stream = io.StringIO()
    progress = _steps(13, stream, clock, interval_s=5)
    _run(progress, clock, range(1, 14), seconds=1.0)
    progress.__exit__()
    assert [int(step) for step in re.findall(r"step +(\d+)/", stream.getvalue())] == [1, 6, 11, 13]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_terminal_redraws_one_line_and_keeps_what_is_said(clock):
    stream = _Terminal()
    with _steps(4, stream, clock, interval_s=0) as progress:
        _run(progress, clock, [1, 2])
        progress.say("saved")
        _run(progress, clock, [3])
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert "saved\n" in text
    assert text.count("\r\x1b[K") == 4
    assert "━━━━━━━━━━━━━━━─────" in text


def test_pauses_do_not_count(clock):
    stream = io.StringIO()
    progress = _steps(40, stream, clock, interval_s=0)
    _run(progress, clock, [1, 2])
    clock.now += 100
    progress.restart_clock()
    _run(progress, clock, [3])
    assert "500 tokens/s" in stream.getvalue().splitlines()[-1]
