"""Ctrl-C and the scheduler's SIGTERM: finish the step, save, leave."""

import os
import signal


class Interruption:
    """Notes the first signal for the training loop to poll; a second Ctrl-C leaves at once.

    Use as a context manager in the main thread; the handlers found before are put back at the end. Leaving at once is
    safe: a checkpoint that is being written has not taken its name yet.
    """

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(128 + number)
        if not self.requested:
            # print() is not safe here: the signal may have come in the middle of another one.
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: saving after this step, then leaving; Ctrl-C (again) leaves at once\n".encode())
        self.requested = True
