"""python -m wmtp_jax.storage {models,datasets,verify}: sets up models and data sets, and checks them later."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from converters.stored import DTYPES
from wmtp_jax.errors import UserError
from wmtp_jax.storage.catalogue import CATALOGUE
from wmtp_jax.storage.errors import StorageError
from wmtp_jax.storage.paths import DATASETS, MODELS, resolve
from wmtp_jax.storage.seal import is_sealed

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
        return {"models": _models, "datasets": _datasets, "verify": _verify}[arguments.command](arguments)
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
    storage = {"type": Path, "default": resolve("storage"), "metavar": "DIR", "help": "default: storage"}

    models = commands.add_parser(
        "models",
        help="set up storage/models_v2/NAME",
        description="Writes NAME completely or not at all; what was killed goes on when the same command is given "
        "again. Without NAME: lists the models that are known.",
    )
    models.add_argument("name", nargs="?", metavar="NAME", help="a known model, or any name for a Hugging Face Llama")
    source = models.add_mutually_exclusive_group()
    source.add_argument("--from", dest="source", type=Path, metavar="DIR", help="directory that holds its files")
    source.add_argument(
        "--download", nargs="?", const="", metavar="OWNER/NAME", help="fetch it from the Hugging Face hub"
    )
    models.add_argument("--revision", help="commit, branch or tag on the hub, or a note about DIR (default: newest)")
    models.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.model, where the source has none")
    models.add_argument("--dtype", choices=list(DTYPES), help="of what is written (default: as in the source)")
    models.add_argument("--storage", **storage)

    datasets = commands.add_parser("datasets", help="set up storage/datasets_v2/NAME")
    if argv[:1] == ["datasets"]:
        from wmtp_jax.storage.datasets_cli import add_arguments

        add_arguments(datasets)

    verify = commands.add_parser(
        "verify",
        help="compare every digest, key, shape, dtype and count with what was sealed",
        description="Exit code 1 when an asset failed. Assets that were never set up are listed and are no failure.",
    )
    verify.add_argument("--check", choices=("models", "datasets"), help="default: both")
    verify.add_argument("--storage", **storage)
    return parser


def _models(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        print(_known_models(arguments.storage))
        return 0
    from wmtp_jax.storage.models import check_free, set_up_model

    check_free(arguments.name, arguments.storage)
    source, origin, revision = arguments.source, str(arguments.source), arguments.revision
    if arguments.download is not None:
        from wmtp_jax.storage.hub import choose_files, download

        repository, folder = _on_the_hub(arguments.name, arguments.download)
        fetched = arguments.storage / MODELS / ".downloads" / arguments.name
        choose = lambda names: choose_files(names, folder)
        partial = arguments.storage / MODELS / f"{arguments.name}.partial"
        revision = download(repository, arguments.revision, choose, fetched, result=partial)
        source = fetched / revision
        origin = f"https://huggingface.co/{repository}" + (f", folder {folder}" if folder else "")
    elif source is None:
        raise StorageError(_where_to_get(arguments.name))
    set_up_model(
        arguments.name,
        source,
        arguments.storage,
        origin=origin,
        revision=revision,
        tokenizer=arguments.tokenizer,
        dtype=arguments.dtype,
    )
    if arguments.download is not None:
        shutil.rmtree(fetched)
    return 0


def _datasets(arguments: argparse.Namespace) -> int:
    from wmtp_jax.storage.datasets_cli import run

    return run(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from wmtp_jax.storage.verification import verdict_table, verify_assets

    kinds = {"models": (MODELS,), "datasets": (DATASETS,), None: (MODELS, DATASETS)}[arguments.check]
    verdicts = verify_assets(arguments.storage, kinds, say=lambda asset: print(f"checking {asset}", file=sys.stderr))
    print(verdict_table(verdicts))
    return int(any(verdict.status == "failed" for verdict in verdicts))


def _on_the_hub(name: str, repository: str) -> tuple[str, str]:
    """Repository and folder of a model."""
    model = CATALOGUE.get(name)
    if model and repository not in ("", model.repository):
        raise StorageError(
            f"{name} is published as {model.repository or 'a part of this project'}, not as {repository}; give a "
            "model of another repository another name"
        )
    if model and not model.repository:
        raise StorageError(f"{name} ships with this project and is on no hub; restore it with git")
    if not model and not repository:
        raise StorageError(f"{name} is none of the known models; say which repository it is: --download OWNER/NAME")
    return (model.repository, model.folder) if model else (repository, "")


def _where_to_get(name: str) -> str:
    """What setting up a model would need."""
    model = CATALOGUE.get(name)
    if model is None:
        return f"{name} is none of the known models; say where it is: --from DIR or --download OWNER/NAME"
    if not model.repository:
        return f"{name} ships with this project and is not here; restore it with git, or give --from DIR"
    where = f"https://huggingface.co/{model.repository}" + (f", folder {model.folder}" if model.folder else "")
    return f"{name} is {where} (licence: {model.licence}); give --download to fetch it, or --from DIR if you have it"


def _known_models(storage: Path) -> str:
    rows = [
        (model.name, "set up" if is_sealed(storage / MODELS / model.name) else "-", model.what, model.repository)
        for model in CATALOGUE.values()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main())
