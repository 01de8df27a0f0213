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
from typing import Any

from wmtp_jax.errors import FileError, UserError, shown
from wmtp_jax.files import cache_directory

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
    # jax reads it when it is imported; without it, every start compiles every program again.
    with contextlib.suppress(FileError):  # a user without a home directory does without
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_directory() / "compiled"))
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


def _checked(kind: type, holds: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text) if len(text) < 100 else None
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"{shown(text)} is not {expected}")
        return value

    return parse


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` to `most`."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    holds = lambda value: least <= value and (most is None or value <= most)
    return _checked(int, holds, f"a whole number {bounds}")


def number(least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number within bounds; `above` excludes its bound."""
    bounds = f"above {above}" if above > -math.inf else f"of at least {least}"
    bounds += f" and at most {most}" if most < math.inf else ""
    holds = lambda value: math.isfinite(value) and least <= value <= most and value > above
    return _checked(float, holds, f"a finite number {bounds}")


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
