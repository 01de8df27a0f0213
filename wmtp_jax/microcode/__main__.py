"""`python -m wmtp_jax.microcode`: makes the data set, or checks one that was made."""

import sys
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax import cli

_EXAMPLES = (
    "python -m wmtp_jax.microcode --out /tmp/microcode",
    "python -m wmtp_jax.microcode --verify storage/datasets_v2/microcode",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, see `wmtp_jax.cli`."""
    return cli.run(lambda: _run(argv), again="the same command makes it anew")


def _run(argv: Sequence[str] | None) -> None:
    description = "Makes the embedded tasks, or checks those that were made."
    parser = cli.ArgumentParser(prog="python -m wmtp_jax.microcode", description=description, examples=_EXAMPLES)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, metavar="DIR", help="write the data set to this directory")
    action.add_argument("--verify", type=Path, metavar="DIR", help="compare this directory with the generator's output")
    chosen = parser.parse_args(argv)
    from wmtp_jax.microcode.corpus import generate
    from wmtp_jax.microcode.shipping import summary, verify, write

    if chosen.verify is not None:
        verify(chosen.verify)
        print(f"{chosen.verify} is what the generator makes")
    else:
        data = generate()
        write(chosen.out, data)
        print(summary(data))


if __name__ == "__main__":
    sys.exit(main())
