"""The command line of `python -m wmtp_jax.storage models`."""

import argparse
import shutil
from pathlib import Path

from converters.tensor import DTYPES
from wmtp_jax import cli
from wmtp_jax.errors import shown
from wmtp_jax.storage.assets import MODELS, StorageError, is_complete, resolve
from wmtp_jax.storage.catalogue import CATALOGUE, where_published

_EXAMPLES = (
    "python -m wmtp_jax.storage models ref-sheared-llama-2.7b --from DIR",
    "python -m wmtp_jax.storage models my-llama --download codellama/CodeLlama-7b-hf",
)


def add_parser(commands) -> None:
    """Adds the command to a parser's subparsers."""
    parser = commands.add_parser(
        "models",
        help="set up storage/models_v2/NAME",
        description="Writes NAME complete or not at all; what was killed continues when the same command is given "
        "again. Without NAME: lists the models that are known.",
        examples=_EXAMPLES,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="a known model, or any name for a Hugging Face Llama")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="source", type=Path, metavar="DIR", help="directory that holds its files")
    source.add_argument(
        "--download", nargs="?", const="", metavar="OWNER/NAME", help="fetch it from the Hugging Face hub"
    )
    add("--revision", help="commit, branch or tag on the hub, or a note about DIR (default: newest)")
    add("--tokenizer", type=Path, metavar="FILE", help="tokenizer.model, where the source has none")
    add("--dtype", choices=list(DTYPES), help="of what is written (default: as in the source)")
    add("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")


def run(arguments: argparse.Namespace) -> int:
    """Lists the models, or sets one up; returns the exit code."""
    if arguments.name is None:
        print(_known_models(arguments.storage))
        return cli.OK
    from wmtp_jax.storage.models import check_free, set_up_model

    check_free(arguments.name, arguments.storage)
    source, origin, revision = arguments.source, str(arguments.source), arguments.revision
    fetched = arguments.storage / MODELS / ".downloads" / arguments.name
    if arguments.download is not None:
        from wmtp_jax.storage.hub import choose_files, download

        repository, folder = _on_the_hub(arguments.name, arguments.download)
        choose = lambda names: choose_files(names, folder)
        partial = arguments.storage / MODELS / f"{arguments.name}.partial"
        revision = download(repository, arguments.revision, choose, fetched, result=partial)
        source, origin = fetched / revision, where_published(repository, folder)
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
    return cli.OK


def _on_the_hub(name: str, repository: str) -> tuple[str, str]:
    """Repository and folder of a model."""
    model = CATALOGUE.get(name)
    if model is None:
        if not repository:
            raise StorageError(f"{name} is none of the known models; say which repository it is: --download OWNER/NAME")
        return repository, ""
    if repository not in ("", model.repository):
        raise StorageError(
            f"{name} is published as {model.repository or 'a part of this project'}, not as {shown(repository)}; give "
            "a model of another repository another name"
        )
    if not model.repository:
        raise StorageError(f"{name} ships with this project and is on no hub; restore it with git")
    return model.repository, model.folder


def _where_to_get(name: str) -> str:
    """What setting up a model would need."""
    model = CATALOGUE.get(name)
    if model is None:
        return f"{name} is none of the known models; say where it is: --from DIR or --download OWNER/NAME"
    if not model.repository:
        return f"{name} ships with this project and is not here; restore it with git, or give --from DIR"
    where = where_published(model.repository, model.folder)
    return f"{name} is {where} (licence: {model.licence}); give --download to fetch it, or --from DIR if you have it"


def _known_models(storage: Path) -> str:
    rows = [
        (model.name, "set up" if is_complete(storage / MODELS / model.name) else "-", model.what, model.repository)
        for model in CATALOGUE.values()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows)
