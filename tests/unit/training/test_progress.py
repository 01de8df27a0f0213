"""The line a person watches."""

import io
import re

import pytest

from wmtp_jax.training.progress import Progress


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


def _run(progress, clock, steps, seconds=2.0, **measures):
    for step in steps:
        clock.now += seconds
        progress.update(step, [1.25, 2.5], **({"tokens": 1000, "flops": 4e9} | measures))


def test_line_by_hand(clock):
    """Two seconds a step: 500 tokens/s; 4 GFLOP in 2 s of a 10 GFLOP/s machine: 20 %; 38 steps left: 76 s."""
    stream = io.StringIO()
    progress = Progress(40, peak_flops=10e9, stream=stream, interval_s=0, clock=clock)
    _run(progress, clock, [1, 2])
    assert stream.getvalue().splitlines() == [
        "step  1/40  loss 1.250 2.500",
        "step  2/40  loss 1.250 2.500  500 tokens/s  20% of matmul peak  ETA 1:16",
    ]


def test_without_a_peak_there_is_no_share(clock):
    stream = io.StringIO()
    _run(Progress(4, stream=stream, interval_s=0, clock=clock), clock, [1, 2])
    assert "tokens/s" in stream.getvalue()
    assert "peak" not in stream.getvalue()


def test_log_has_plain_lines_every_few_seconds_and_the_last_step(clock):
    stream = io.StringIO()
    progress = Progress(13, stream=stream, interval_s=5, clock=clock)
    _run(progress, clock, range(1, 14), seconds=1.0)
    progress.close()
    assert [int(step) for step in re.findall(r"step +(\d+)/", stream.getvalue())] == [1, 6, 11, 13]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_time_for_evaluation_and_checkpoints_does_not_count(clock):
    stream = io.StringIO()
    progress = Progress(4, stream=stream, interval_s=0, clock=clock)
    _run(progress, clock, [1, 2])
    clock.now += 1000
    progress.restart_clock()
    _run(progress, clock, [3])
    assert "500 tokens/s" in stream.getvalue().splitlines()[-1]


def test_resumed_run_counts_only_its_own_steps(clock):
    stream = io.StringIO()
    _run(Progress(102, stream=stream, interval_s=0, clock=clock), clock, [101, 102])
    assert stream.getvalue().splitlines()[-1].endswith("500 tokens/s  ETA 0:00")


def test_terminal_has_one_moving_line_and_said_lines_stay(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = _Terminal()
    progress = Progress(40, peak_flops=10e9, stream=stream, interval_s=0, clock=clock)
    _run(progress, clock, [1, 2])
    progress.say("checkpoint 2 saved")
    progress.close()
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3  # what was said, the last state, the end
    assert lines[0].endswith("\r\x1b[Kcheckpoint 2 saved")
    assert lines[1].startswith("━─")
    assert all(len(part.removeprefix("\x1b[K")) < 60 for line in lines for part in line.split("\r"))


def test_closing_twice_or_before_the_first_step_prints_nothing(clock):
    stream = _Terminal()
    progress = Progress(4, stream=stream, clock=clock)
    progress.close()
    progress.close()
    assert stream.getvalue() == ""
