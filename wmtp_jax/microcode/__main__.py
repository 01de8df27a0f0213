"""`python -m wmtp_jax.microcode`: makes the data set, or checks one that was made."""

import argparse
import sys
from pathlib import Path

from wmtp_jax.errors import UserError
from wmtp_jax.microcode.corpus import generate
from wmtp_jax.microcode.shipping import summary, verify, write


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of the process when None.

    Returns:
        Exit code: 0, or 2 after a sentence on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m wmtp_jax.microcode", description=__doc__, allow_abbrev=False)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, metavar="DIR", help="write the data set to this directory")
    action.add_argument("--verify", type=Path, metavar="DIR", help="compare this directory with the generator's output")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verify is not None:
            verify(chosen.verify)
            print(f"{chosen.verify} is what the generator makes.")
        else:
            data = generate()
            write(chosen.out, data)
            print(summary(data))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
