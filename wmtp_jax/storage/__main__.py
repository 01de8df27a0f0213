"""python -m wmtp_jax.storage {models,datasets,verify}: sets up models and data sets, and checks them later."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax import cli
from wmtp_jax.storage.assets import DATASETS, MODELS, resolve

_EXAMPLES = (
    "HF_TOKEN=... python -m wmtp_jax.storage models meta-llama-mtp --download   # gated: accept the licence first",
    "python -m wmtp_jax.storage datasets mbpp --from mbpp.jsonl",
    "python -m wmtp_jax.storage verify",
)
_VERIFY_EXAMPLES = (
    "python -m wmtp_jax.storage verify",
    "python -m wmtp_jax.storage verify --check datasets --storage /data/storage",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code, see `wmtp_jax.cli`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    return cli.run(lambda: _run(argv), again="the same command completes it")


def make_parser(command: str = "") -> cli.ArgumentParser:
    """The parser of the command line.

    Args:
        command: whose options are added; the commands need different libraries.
    """
    parser = cli.ArgumentParser(
        prog="python -m wmtp_jax.storage",
        description="Sets up models and data sets under storage/, and checks them later.",
        examples=_EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("models", "datasets"):
        module = importlib.import_module(f"wmtp_jax.storage.{name}_cli") if name == command else None
        options = {"description": module.DESCRIPTION, "examples": module.EXAMPLES} if module else {}
        subparser = commands.add_parser(name, help=f"set up storage/{name}_v2/NAME", **options)
        if module:
            module.add_arguments(subparser)
    verify = commands.add_parser(
        "verify",
        help="compare every digest, key, shape, dtype and count with those of the set-up",
        description="Exit code 1 when an asset failed. Assets that were never set up are listed and are no failure.",
        examples=_VERIFY_EXAMPLES,
    )
    verify.add_argument("--check", choices=("models", "datasets"), help="default: both")
    verify.add_argument("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")
    return parser


def _run(argv: Sequence[str]) -> int:
    arguments = make_parser(argv[0] if argv else "").parse_args(argv)
    if arguments.command == "verify":
        return _verify(arguments)
    return importlib.import_module(f"wmtp_jax.storage.{arguments.command}_cli").run(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from wmtp_jax.storage.verification import status_table, verify_assets

    kinds = {"models": (MODELS,), "datasets": (DATASETS,), None: (MODELS, DATASETS)}[arguments.check]
    statuses = verify_assets(arguments.storage, kinds, say=lambda asset: print(f"checking {asset}", file=sys.stderr))
    print(status_table(statuses))
    return cli.CHECK_FAILED if any(status.status == "failed" for status in statuses) else cli.OK


if __name__ == "__main__":
    sys.exit(main())
