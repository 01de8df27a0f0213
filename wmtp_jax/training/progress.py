"""What a person watching a run wants to see: one line that moves on a terminal, plain lines in a log."""

import collections
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

_WINDOW_STEPS = 50
_BAR_WIDTH = 20


class Progress:
    """Prints step, loss per head, tokens/s, share of the matmul peak and time left. A context manager.

    Args:
        total_steps: of the whole run.
        peak_flops: FLOP/s of the machine (`measured_matmul_peak`); None leaves the share out.
        stream: where to; stderr by default.
        interval_s: least time between two lines; by default 0.1 on a terminal and 5 elsewhere.
        clock: seconds.
    """

    def __init__(
        self,
        total_steps: int,
        peak_flops: float | None = None,
        stream: TextIO | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total_steps
        self._peak = peak_flops
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval_s if interval_s is not None else (0.1 if self._terminal else 5.0)
        self._clock = clock
        self._measured = collections.deque(maxlen=_WINDOW_STEPS)
        self._step_began: float | None = None
        self._line = ""
        self._shown_line = ""
        self._shown_at: float | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def update(self, step: int, head_losses: Sequence[float], tokens: int, flops: float = 0.0) -> None:
        """Notes a finished step.

        Args:
            step: number of steps finished so far.
            head_losses: loss of each head, nats per token; none when nothing is trained.
            tokens: positions the step processed.
            flops: its matmul FLOPs (`step_flops`).
        """
        now = self._clock()
        if self._step_began is not None:  # the first step compiles: its time says nothing about the others
            self._measured.append((now - self._step_began, tokens, flops))
        self._step_began = now
        self._line = self._describe(step, head_losses)
        if self._shown_at is None or now - self._shown_at >= self._interval or step == self._total:
            self._show(now)

    def restart_clock(self) -> None:
        """Call after evaluating or saving: the time since the last step was not training."""
        if self._step_began is not None:
            self._step_began = self._clock()

    def say(self, text: str) -> None:
        """Prints a line that stays, above the moving one."""
        if self._terminal and self._shown_line:
            self._stream.write(f"\r\x1b[K{text}\n{self._shown_line}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves the last state standing."""
        if self._line and self._line != self._shown_line:
            self._show(self._clock())
        if self._terminal and self._shown_line:
            self._stream.write("\n")
            self._stream.flush()
        self._line = self._shown_line = ""

    def _show(self, now: float) -> None:
        self._shown_at, self._shown_line = now, self._line
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._shown_line = self._line = self._line[:width]
            self._stream.write(f"\r\x1b[K{self._line}")
        else:
            self._stream.write(self._line + "\n")
        self._stream.flush()

    def _describe(self, step: int, head_losses: Sequence[float]) -> str:
        parts = [f"step {step:>{len(str(self._total))}}/{self._total}"]
        if self._terminal:
            parts.insert(0, _bar(step / self._total))
        if head_losses:
            parts.append("loss " + " ".join(f"{loss:.3f}" for loss in head_losses))
        seconds, tokens, flops = (
            (sum(column) for column in zip(*self._measured, strict=True)) if self._measured else (0, 0, 0)
        )
        if seconds > 0:
            parts.append(f"{tokens / seconds:,.0f} tokens/s")
            if self._peak and flops:
                parts.append(f"{flops / seconds / self._peak:.0%} of matmul peak")
            parts.append("ETA " + _duration((self._total - step) * seconds / len(self._measured)))
        return "  ".join(parts)


def _bar(share: float) -> str:
    filled = round(min(share, 1.0) * _BAR_WIDTH)
    return "━" * filled + "─" * (_BAR_WIDTH - filled)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
