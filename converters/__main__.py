"""python -m converters {inspect,convert,verify}: look at a model in files, convert it, check its digests."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from converters.checkpoint import LAYOUTS, open_checkpoint
from converters.inspect import describe_checkpoint, describe_plan, verify
from converters.output import check_destination
from converters.plan import SHARD_BYTES, fingerprint, make_plan
from converters.save import run_plan
from converters.tensor import DTYPES, parse_dtype
from wmtp_jax import cli
from wmtp_jax.errors import shown
from wmtp_jax.progress import Progress

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT]B)", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a size; expected a number with KB, MB, GB or TB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parser() -> cli.ArgumentParser:
    prog = "python -m converters"
    parser = cli.ArgumentParser(
        prog=prog,
        description="Converts models between Meta's layout, Hugging Face's Llama and our Flax tree.",
        examples=[f"{prog} inspect models/7B_1T_4", f"{prog} convert models/7B_1T_4 models/7b-flax --to flax"],
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser(
        "inspect",
        help="layout, architecture and tensors of a model; reads no weights",
        examples=[f"{prog} inspect models/7B_1T_4", f"{prog} inspect models/both --from hf"],
    )
    converting = commands.add_parser(
        "convert",
        help="write a model in another layout",
        description="Writes DESTINATION completely or not at all. A conversion that was killed continues where it "
        "stood when the same command is given again. What a manifest.json of the source vouches for is checked.",
        examples=[
            f"{prog} convert models/7B_1T_4 models/7b-flax --to flax --dtype bfloat16",
            f"{prog} convert models/sheared-llama models/sheared-mtp --to meta --grow_heads 4",
        ],
    )
    add = converting.add_argument
    add("source", type=Path, metavar="SOURCE", help="a Meta, Hugging Face or Flax-tree directory")
    add("destination", type=Path, metavar="DESTINATION", help="must not exist or be empty")
    add("--to", required=True, choices=list(LAYOUTS), help="layout to write")
    add("--dtype", choices=list(DTYPES), help="of what is written (default: as in the source)")
    heads = "make a plain Llama an MTP model; heads copy its last layer"
    add("--grow_heads", type=cli.integer(2, 1000), metavar="N", help=heads)
    add("--max_shard_size", type=_size, default=SHARD_BYTES, metavar="SIZE", help="of a weight file (default: 5GB)")
    add("--dry_run", action="store_true", help="print the map and write nothing")
    verifying = commands.add_parser(
        "verify",
        help="compare every byte with manifest.json and SHA256SUMS",
        examples=[f"{prog} verify models/7b-flax", f"{prog} verify storage/models_v2/micro-mtp"],
    )
    for command in (inspect, verifying):
        command.add_argument("directory", type=Path, metavar="DIR", help="a Meta, Hugging Face or Flax-tree directory")
    for command in (inspect, converting, verifying):
        command.add_argument("--from", dest="layout", choices=list(LAYOUTS), help="layout, if DIR holds more than one")
    return parser


def _inspect(arguments: argparse.Namespace) -> None:
    print("\n".join(describe_checkpoint(open_checkpoint(arguments.directory, arguments.layout))))


def _convert(arguments: argparse.Namespace) -> None:
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
    what = f"{source.layout.name} -> {plan.target.name}"
    with Progress(plan.nbytes / 1e6, what, unit="MB", rate="MB") as progress:
        identity = fingerprint(source, plan)
        run_plan(source, plan, arguments.destination, identity, source.tokenizer_files, progress)
    print("".join(f"note: {note}\n" for note in plan.notes), end="")
    written = f"{len(plan.pieces)} tensors in {plan.target.title} layout, {plan.nbytes / 1e9:.3f} GB"
    print(f"{arguments.destination}: {written}")


def _verify(arguments: argparse.Namespace) -> None:
    checkpoint = open_checkpoint(arguments.directory, arguments.layout)
    megabytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values()) / 1e6
    with Progress(megabytes, "verify", unit="MB", rate="MB") as progress:
        findings = verify(checkpoint, lambda nbytes: progress.advance(nbytes / 1e6))
    print("\n".join(f"{arguments.directory}: {finding}" for finding in findings))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (see `wmtp_jax.cli`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    again = "the same command continues the conversion" if arguments[:1] == ["convert"] else ""

    def command() -> None:
        parsed = _parser().parse_args(arguments)
        {"inspect": _inspect, "convert": _convert, "verify": _verify}[parsed.command](parsed)

    return cli.run(command, again)


if __name__ == "__main__":
    sys.exit(main())
