"""Ctrl-C and the scheduler's SIGTERM: finish the step, save, exit."""

import os
import signal

from wmtp_jax.cli import Terminated


class Interruption:
    """Notes the first signal for the training loop to poll; a second Ctrl-C exits at once.

    Use as a context manager in the main thread. At its end the handlers found before are put back, and a noted signal
    raises what ends the command: KeyboardInterrupt or Terminated. Exiting at once is safe: a checkpoint that is being
    written has not taken its name yet.
    """

    def __init__(self):
        self._number: int | None = None
        self._previous = {}

    @property
    def requested(self) -> bool:
        """Whether a signal arrived."""
        return self._number is not None

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.requested and kind is None:
            raise KeyboardInterrupt if self._number == signal.SIGINT else Terminated

    def _note(self, number: int, _frame) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(128 + number)
        if not self.requested:
            # print() is not safe here: the signal may have come in the middle of another one.
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: saving after this step, then exiting; Ctrl-C (again) exits at once\n".encode())
            self._number = number
