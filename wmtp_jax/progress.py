"""The line a person watches: redrawn in place on a terminal, a plain line every few seconds in a log."""

import collections
import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

_WINDOW = 50  # updates over which rates are averaged
_BAR_WIDTH = 20


class Progress(contextlib.AbstractContextManager):
    """Prints `what done/total unit  note  rate  ETA`. A context manager.

    Args:
        total: how much there is to do.
        what: is counted or being done: "step", "programs", "verify".
        unit: of `done` and `total`, such as "MB"; "" for plain counts.
        rate: what is worked through per second, such as "tokens"; "" prints no rate.
        compiles: the first update includes compilation, which says nothing about the others.
        stream: where to; stderr by default.
        interval_s: least time between two lines; by default 0.1 on a terminal and 5 elsewhere.
        clock: seconds.
    """

    def __init__(
        self,
        total: float,
        what: str,
        *,
        unit: str = "",
        rate: str = "",
        compiles: bool = False,
        stream: TextIO | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._what, self._unit, self._rate = total, what, unit, rate
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval_s if interval_s is not None else (0.1 if self._terminal else 5.0)
        self._clock = clock
        self._window: collections.deque[tuple[float, float, float, float]] = collections.deque(maxlen=_WINDOW)
        self._done = 0.0
        self._last: float | None = None if compiles else clock()
        self._line = self._shown_line = ""
        self._shown_at: float | None = None if compiles else clock()

    def __exit__(self, *_) -> None:
        """Leaves the last state on the screen."""
        if self._line and self._line != self._shown_line:
            self._show(self._clock())
        if self._terminal and self._shown_line:
            self._stream.write("\n")
            self._stream.flush()
        self._line = self._shown_line = ""

    def update(self, done: float, note: str = "", *, work: float | None = None, peak_seconds: float = 0.0) -> None:
        """Notes how far it is.

        Args:
            done: in total, since the beginning.
            note: what else to show, such as losses.
            work: done since the last update, in units of `rate`; None takes the increase of `done`.
            peak_seconds: time that this work takes at the machine's matmul peak.
        """
        now, increase = self._clock(), done - self._done
        if self._last is not None and now > self._last:
            self._window.append((now - self._last, increase, increase if work is None else work, peak_seconds))
        self._last, self._done = now, done
        self._line = self._describe(note)
        if self._shown_at is None or now - self._shown_at >= self._interval or done >= self._total:
            self._show(now)

    def advance(self, amount: float = 1) -> None:
        """Notes that so much more is done."""
        self.update(self._done + amount)

    def skip(self, amount: float) -> None:
        """Notes what needs no work: it counts as done, not for the rate."""
        self._done += amount

    def restart_clock(self) -> None:
        """Call after a pause, such as an evaluation: the time since the last update was no work."""
        if self._last is not None:
            self._last = self._clock()

    def say(self, text: str) -> None:
        """Prints a line that stays, above the moving one."""
        if self._terminal and self._shown_line:
            self._stream.write(f"\r\x1b[K{text}\n{self._shown_line}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _show(self, now: float) -> None:
        if self._terminal:
            self._line = self._line[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r\x1b[K{self._line}")
        elif self._line != self._shown_line:
            self._stream.write(self._line + "\n")
        self._shown_at, self._shown_line = now, self._line
        self._stream.flush()

    def _describe(self, note: str) -> str:
        total = f"{self._total:,.0f}"
        parts = [f"{self._what} {self._done:>{len(total)},.0f}/{total} {self._unit}".rstrip()]
        if self._terminal:
            filled = round(min(self._done / max(self._total, 1e-9), 1.0) * _BAR_WIDTH)
            parts.insert(0, "━" * filled + "─" * (_BAR_WIDTH - filled))
        if note:
            parts.append(note)
        if self._window:
            seconds, done, work, peak_seconds = (sum(column) for column in zip(*self._window, strict=True))
            if self._rate:
                parts.append(f"{work / seconds:,.0f} {self._rate}/s")
            if peak_seconds:
                parts.append(f"{peak_seconds / seconds:.0%} of matmul peak")
            if done:
                parts.append("ETA " + _duration(max(self._total - self._done, 0) * seconds / done))
        return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
