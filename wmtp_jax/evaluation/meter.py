"""How far a part of the evaluation is."""

import sys
import time


class Meter:
    """How far a part of the evaluation is: one moving line on a terminal, a line every five seconds elsewhere."""

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()

    def show(self, done: int) -> None:
        """Notes that `done` of all are done."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else 5.0) and done < self._total:
            return
        self._shown = now
        end = ("\n" if done == self._total else "") if self._terminal else "\n"
        start = "\r\x1b[K" if self._terminal else ""
        print(
            f"{start}{self._what} {done}/{self._total}  {now - self._began:.0f} s", end=end, file=sys.stderr, flush=True
        )
