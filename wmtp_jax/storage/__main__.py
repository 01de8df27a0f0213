"""python -m wmtp_jax.storage {models,datasets,verify}: sets up models and data sets, and checks them later."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax import cli
from wmtp_jax.storage import datasets_cli, models_cli
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

    def command() -> int:
        arguments = make_parser().parse_args(argv)
        return arguments.run(arguments)

    return cli.run(command, again="the same command completes it")


def make_parser() -> cli.ArgumentParser:
    """The parser of the command line; the namespace's `run` is the command."""
    parser = cli.ArgumentParser(
        prog="python -m wmtp_jax.storage",
        description="Sets up models and data sets under storage/, and checks them later.",
        examples=_EXAMPLES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    models_cli.add_parser(commands)
    datasets_cli.add_parser(commands)
    verify = commands.add_parser(
        "verify",
        help="compare every digest, key, shape, dtype and count with those of the set-up",
        description="Exit code 1 when an asset failed. Assets that were never set up are listed and are no failure.",
        examples=_VERIFY_EXAMPLES,
    )
    verify.add_argument("--check", choices=("models", "datasets"), help="default: both")
    verify.add_argument("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")
    verify.set_defaults(run=_verify)
    return parser


def _verify(arguments: argparse.Namespace) -> int:
    from wmtp_jax.storage.verification import status_table, verify_assets

    kinds = {"models": (MODELS,), "datasets": (DATASETS,), None: (MODELS, DATASETS)}[arguments.check]
    statuses = verify_assets(arguments.storage, kinds)
    print(status_table(statuses))
    return cli.CHECK_FAILED if any(status.status == "failed" for status in statuses) else cli.OK


if __name__ == "__main__":
    sys.exit(main())
