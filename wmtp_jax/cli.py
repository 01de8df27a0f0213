"""How every command starts, fails and exits.

Exit codes: 0 done; 1 a check failed; 2 a mistake that the user can correct, told in one sentence; 130 stopped by
Ctrl-C; 141 nobody reads the output any more; 143 stopped by SIGTERM. Entry points import nothing heavy before their
arguments are checked.
"""

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from wmtp_jax.errors import UserError, shown

OK, CHECK_FAILED, USER_ERROR, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143
LARGEST_SEED = 2**63 - 1


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it passes through `except Exception`."""


class CommandLineError(UserError):
    """Arguments that do not parse."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with examples below the help and mistakes raised as one sentence."""

    def __init__(self, *args, examples: Sequence[str] = (), **kwargs):
        epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str):
        """Raises instead of printing the usage and leaving."""
        raise CommandLineError(f"{message}; see {self.prog} --help")


def run(command: Callable[[], int | None], again: str = "") -> int:
    """Runs a command and turns whatever ends it into an exit code and a sentence on stderr.

    Args:
        command: parses its arguments and does the work; returns its exit code, None for 0.
        again: what starting it again does, for whoever stops it: "the same command continues".
    """
    ending = f"; {again}" if again else ""
    try:
        with _sigterm_raises():
            code = command() or OK
            sys.stdout.flush()
            return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:  # `command | head`: whoever read the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}{ending}", file=sys.stderr)
        return USER_ERROR
    except SystemExit as error:  # argparse leaves this way after --help
        return error.code if isinstance(error.code, int) else OK
    except KeyboardInterrupt:
        print(f"\ninterrupted{ending}", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(f"\nterminated by SIGTERM{ending}", file=sys.stderr)
        return TERMINATED


def integer(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text) if len(text) < 100 else None
        except ValueError:
            value = None
        if value is None or (least is not None and value < least) or (most is not None and value > most):
            bounds = f" from {least} to {most}" if most is not None else f" of at least {least}"
            raise argparse.ArgumentTypeError(
                f"{shown(text)} is not a whole number{bounds if least is not None else ''}"
            )
        return value

    return parse


def number(least: float | None = None, most: float | None = None, *, above: float | None = None):
    """An argparse type: a finite number within bounds; `above` excludes its bound."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        bounds = [f"of at least {least}"] * (least is not None) + [f"above {above}"] * (above is not None)
        bounds += [f"of at most {most}"] * (most is not None)
        if (
            not math.isfinite(value)
            or (least is not None and value < least)
            or (above is not None and value <= above)
            or (most is not None and value > most)
        ):
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a finite number {' and '.join(bounds)}".rstrip())
        return value

    return parse


seed = integer(0, LARGEST_SEED)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
