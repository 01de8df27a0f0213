"""Bytes done, rate and time left: one line that is redrawn on a terminal, a few plain lines elsewhere."""

import sys
import time


class ByteProgress:
    """Reports to stderr, as a context: twice a second on a terminal, at every tenth of a longer way elsewhere.

    Args:
        total: bytes to come.
        what: is being done, the first words of the line.
    """

    def __init__(self, total: int, what: str):
        self._total, self._what = max(total, 1), what
        self._done, self._skipped = 0, 0
        self._start = self._last = time.monotonic()
        self._tenths = 0
        self._terminal = sys.stderr.isatty()

    def skip(self, count: int) -> None:
        """Bytes that need no work; they do not count for the rate."""
        self._skipped += count
        self._done += count

    def advance(self, count: int) -> None:
        """Bytes that are done now."""
        self._done += count
        now = time.monotonic()
        if self._terminal:
            if now - self._last > 0.5:
                self._last = now
                print(f"\r{self._line(now)}", end="", file=sys.stderr, flush=True)
        elif (tenths := 10 * self._done // self._total) > self._tenths and tenths < 10 and now - self._last > 1:
            self._tenths, self._last = tenths, now
            print(self._line(now), file=sys.stderr, flush=True)

    def __enter__(self) -> "ByteProgress":
        return self

    def __exit__(self, kind, *_error) -> None:
        if kind is None:
            ending = self._line(time.monotonic())
            print(f"\r{ending}" if self._terminal else ending, file=sys.stderr, flush=True)
        elif self._terminal:
            print(file=sys.stderr)  # What went wrong starts on a line of its own.

    def _line(self, now: float) -> str:
        share = min(1.0, self._done / self._total)
        rate = (self._done - self._skipped) / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        bar = "#" * int(20 * share) + "." * (20 - int(20 * share))
        size = f"{self._done / 1e6:,.1f} of {self._total / 1e6:,.1f} MB"
        times = f"{left // 60:.0f}:{left % 60:02.0f} left" if share < 1 else f"{now - self._start:.1f} s"
        return f"{self._what} [{bar}] {share:4.0%}  {size}  {rate / 1e6:,.0f} MB/s  {times}   "
