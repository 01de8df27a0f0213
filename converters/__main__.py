"""python -m converters {inspect,convert,verify}: look at a model in files, convert it, check its digests."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from converters.checkpoint import LAYOUTS, open_checkpoint
from converters.convert import convert
from converters.describe import describe_checkpoint, describe_plan
from converters.output import check_destination
from converters.plan import make_plan
from converters.stored import DTYPES, parse_dtype
from converters.verify import verify
from wmtp_jax.byte_progress import ByteProgress
from wmtp_jax.errors import UserError

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_EXAMPLES = """examples:
  python -m converters inspect models/7B_1T_4
  python -m converters convert models/7B_1T_4 models/7b-flax --to flax --dtype bfloat16
  python -m converters convert models/sheared-llama models/sheared-mtp --to meta --grow_heads 4
  python -m converters verify models/7b-flax
"""


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected a number with KB, MB, GB or TB, as in 5GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters",
        description="Converts models between Meta's layout, Hugging Face's Llama and our Flax tree.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    layout = {"dest": "layout", "choices": list(LAYOUTS), "help": "layout, where the directory holds more than one"}

    inspect = commands.add_parser("inspect", help="layout, architecture and tensors of a model; reads no weights")
    inspect.add_argument("directory", type=Path)
    inspect.add_argument("--from", **layout)

    converting = commands.add_parser(
        "convert",
        help="write a model in another layout",
        description="Writes DESTINATION completely or not at all. A conversion that was killed continues where it "
        "stood when the same command is given again.",
    )
    converting.add_argument("source", type=Path, metavar="SOURCE", help="a Meta, Hugging Face or Flax-tree directory")
    converting.add_argument("destination", type=Path, metavar="DESTINATION", help="must not exist or be empty")
    converting.add_argument("--to", required=True, choices=list(LAYOUTS), help="layout to write")
    converting.add_argument("--from", **layout)
    converting.add_argument("--dtype", choices=list(DTYPES), help="of what is written (default: as in the source)")
    converting.add_argument(
        "--grow_heads", type=int, metavar="N", help="make a plain Llama an MTP model; heads copy its last layer"
    )
    converting.add_argument(
        "--max_shard_size", type=_size, default="5GB", metavar="SIZE", help="largest weight file (default: 5GB)"
    )
    converting.add_argument("--dry_run", action="store_true", help="print the map and write nothing")

    verifying = commands.add_parser("verify", help="compare every byte with manifest.json and SHA256SUMS")
    verifying.add_argument("directory", type=Path)
    verifying.add_argument("--from", **layout)
    return parser


def _inspect(arguments) -> None:
    print("\n".join(describe_checkpoint(open_checkpoint(arguments.directory, arguments.layout))))


def _convert(arguments) -> None:
    check_destination(arguments.destination)
    source = open_checkpoint(arguments.source, arguments.layout)
    plan = make_plan(
        source,
        LAYOUTS[arguments.to],
        dtype=parse_dtype(arguments.dtype),
        grow_heads=arguments.grow_heads,
        max_shard_bytes=arguments.max_shard_size,
    )
    if arguments.dry_run:
        print("\n".join(describe_plan(source, plan)))
        return
    with ByteProgress(plan.nbytes, f"{source.layout.name} -> {plan.target.name}") as progress:
        convert(source, plan, arguments.destination, progress)
    for note in plan.notes:
        print(f"note: {note}")
    print(
        f"{arguments.destination}: {len(plan.pieces)} tensors in {plan.target.title} layout, {plan.nbytes / 1e9:.3f} GB"
    )


def _verify(arguments) -> None:
    checkpoint = open_checkpoint(arguments.directory, arguments.layout)
    with ByteProgress(sum(tensor.nbytes for tensor in checkpoint.tensors.values()), "verify") as progress:
        findings = verify(checkpoint, progress)
    for finding in findings:
        print(f"{arguments.directory}: {finding}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (0, or 2 after a mistake that the user can correct)."""
    arguments = _parser().parse_args(argv)
    try:
        {"inspect": _inspect, "convert": _convert, "verify": _verify}[arguments.command](arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        again = "; the same command continues the conversion" if arguments.command == "convert" else ""
        print(f"error: {error.filename or 'disk'}: {error.strerror or error}{again}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = "; the same command continues the conversion" if arguments.command == "convert" else ""
        print(f"\nstopped{again}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
