"""python -m wmtp_jax.storage {models,datasets,verify}: sets up models and data sets, and checks them later."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax.errors import UserError
from wmtp_jax.storage.paths import DATASETS, MODELS, resolve

_EXAMPLES = """examples:
  python -m wmtp_jax.storage models                                          # what there is
  HF_TOKEN=... python -m wmtp_jax.storage models meta-llama-mtp --download   # gated: accept the licence first
  python -m wmtp_jax.storage models ref-sheared-llama-2.7b --from DIR
  python -m wmtp_jax.storage models my-llama --download codellama/CodeLlama-7b-hf
  python -m wmtp_jax.storage verify
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 when an asset failed its check, 2 after a mistake."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = _parser(argv).parse_args(argv)
        return _verify(arguments) if arguments.command == "verify" else _command(arguments.command).run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error.filename or 'disk'}: {error.strerror or error}; the same command goes on", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wmtp_jax.storage",
        description="Sets up models and data sets under storage/, and checks them later.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("models", "datasets"):
        parser_of_one = commands.add_parser(name, help=f"set up storage/{name}_v2/NAME")
        if argv[:1] == [name]:
            _command(name).add_arguments(parser_of_one)

    verify = commands.add_parser(
        "verify",
        help="compare every digest, key, shape, dtype and count with what was sealed",
        description="Exit code 1 when an asset failed. Assets that were never set up are listed and are no failure.",
    )
    verify.add_argument("--check", choices=("models", "datasets"), help="default: both")
    verify.add_argument("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")
    return parser


def _command(name: str):
    """The module of a command; the commands need different libraries."""
    return importlib.import_module(f"wmtp_jax.storage.{name}_cli")


def _verify(arguments: argparse.Namespace) -> int:
    from wmtp_jax.storage.verification import verdict_table, verify_assets

    kinds = {"models": (MODELS,), "datasets": (DATASETS,), None: (MODELS, DATASETS)}[arguments.check]
    verdicts = verify_assets(arguments.storage, kinds, say=lambda asset: print(f"checking {asset}", file=sys.stderr))
    print(verdict_table(verdicts))
    return int(any(verdict.status == "failed" for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
