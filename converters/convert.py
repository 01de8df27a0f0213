"""Carries out a plan: one slot at a time from the source, through a thread, into its place on disk."""

import dataclasses
import secrets
from collections.abc import Callable
from pathlib import Path

from converters.arrangement import FLAT, Arrangement
from converters.checkpoint import Checkpoint, open_checkpoint
from converters.hugging_face import HUGGING_FACE
from converters.layout import Layout, Origin
from converters.meta import META
from converters.output import OutputDirectory
from converters.parameters import Parameters
from converters.plan import Plan, Source, chunks, fingerprint, make_plan, tokenizer_files
from converters.slots import Slot
from converters.stored import parse_dtype
from converters.tree import TREE
from converters.value_head import VALUE_HEAD_FILE, value_head_file
from wmtp_jax.byte_progress import ByteProgress
from wmtp_jax.model import ModelConfig

MAX_SHARD_BYTES = 5 * 10**9


def run_plan(
    source: Source,
    plan: Plan,
    directory: Path,
    identity: str,
    copies: list[Path],
    progress: ByteProgress | None = None,
    *,
    arrangement: Arrangement = FLAT,
    complete: Callable[[Path], None] | None = None,
) -> None:
    """Writes the model directory of a plan, complete or not at all.

    Args:
        source: where the numbers come from.
        plan: what to write, as of `make_plan`.
        directory: must not exist or be empty.
        identity: equal for conversions that write the same bytes; continues what was killed.
        copies: tokenizer files that travel along.
        progress: a `ByteProgress`, or None for silence.
        arrangement: in which folders the files are to lie.
        complete: adds to the directory under its provisional name, after all else and before it gets its own.

    Raises:
        ConverterError: NaN or infinity, values beyond the dtype, a damaged source, a directory in use.
    """
    with OutputDirectory(directory, plan.files, plan.target.stem, identity, arrangement) as output:
        for name, tensor in plan.tensors.items():
            if name in output.digests:
                if progress:
                    progress.skip(tensor.nbytes)
                continue
            output.write(name, _counted(chunks(source, plan, tensor), progress))
        output.drain()
        dtype = _main_dtype(plan)
        record = plan.target.write_config(plan.config, plan.base, dtype, _output_equals_embedding(plan, output.digests))
        manifest = {
            "format": "wmtp-jax manifest 1",
            "layout": plan.target.name,
            "source": _describe(source),
            "notes": list(plan.notes),
            "config": dataclasses.asdict(plan.config),
        }
        others = {f"{arrangement.tokenizer}/{path.name}": path.read_bytes() for path in copies}
        if source.value_head is not None:
            others[f"{arrangement.weights}/{VALUE_HEAD_FILE}"] = value_head_file(source.value_head)
        output.finish({plan.target.config_names[0]: record}, others, manifest, complete)


def convert(source: Checkpoint, plan: Plan, directory: str | Path, progress: ByteProgress | None = None) -> None:
    """Converts files to files, see `run_plan`; tokenizer files travel along."""
    run_plan(source, plan, Path(directory), fingerprint(source, plan), tokenizer_files(source.directory), progress)


def save_meta(
    directory: str | Path,
    config: ModelConfig,
    params: dict,
    *,
    dtype=None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    source: str | Path | None = None,
) -> None:
    """Writes params as a Meta model: params.json and consolidated.safetensors (`safetensors.torch.load_file` reads it).

    Args:
        directory: must not exist or be empty.
        config: the architecture.
        params: nested dict of arrays, as of `wmtp_jax.model.init_params`.
        dtype: of the file: "float32", "float16", "bfloat16"; None keeps each leaf's.
        max_shard_bytes: larger models become several files with an index.
        source: directory of the model they came from: its tokenizer travels along, and what its config file says
            beyond the architecture is kept when the layout is the same.

    Raises:
        ConverterError: params that do not fit the config, NaN or infinity, a directory in use.
    """
    _save(META, directory, config, params, dtype, max_shard_bytes, source)


def save_hf(
    directory: str | Path,
    config: ModelConfig,
    params: dict,
    *,
    dtype=None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    source: str | Path | None = None,
) -> None:
    """Writes params as a Hugging Face Llama: config.json and model.safetensors; of several heads head 1 is kept.

    Args and Raises as of `save_meta`.
    """
    _save(HUGGING_FACE, directory, config, params, dtype, max_shard_bytes, source)


def save_tree(
    directory: str | Path,
    config: ModelConfig,
    params: dict,
    *,
    dtype=None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    source: str | Path | None = None,
) -> None:
    """Writes params as they are: model_config.json and params.safetensors, one tensor per leaf.

    Args and Raises as of `save_meta`.
    """
    _save(TREE, directory, config, params, dtype, max_shard_bytes, source)


def _save(layout: Layout, directory, config, params, dtype, max_shard_bytes, source) -> None:
    origin: Origin | None = None
    copies: list[Path] = []
    if source is not None:
        opened = open_checkpoint(source)
        origin, copies = opened.origin, tokenizer_files(opened.directory)
    parameters = Parameters(config, params, origin)
    plan = make_plan(parameters, layout, dtype=parse_dtype(dtype), grow_heads=None, max_shard_bytes=max_shard_bytes)
    run_plan(parameters, plan, Path(directory), secrets.token_hex(32), copies)


def _counted(pieces, progress: ByteProgress | None):
    for piece in pieces:
        yield piece
        if progress:
            progress.advance(piece.nbytes)


def _main_dtype(plan: Plan) -> str:
    """Name of the element type that most bytes have: what a config file calls the model's dtype."""
    sizes: dict[str, int] = {}
    for tensor in plan.tensors.values():
        sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + tensor.nbytes
    return max(sizes, key=sizes.__getitem__)


def _output_equals_embedding(plan: Plan, digests: dict[str, str]) -> bool:
    """Untied, yet equal: a reader that infers tying from equality has to be told."""
    if plan.config.tie_embeddings or plan.target.keeps_leaves:
        return False
    name = lambda leaf: plan.target.place(plan.config, Slot(leaf)).tensor
    return digests[name("tok_embeddings.embedding")] == digests[name("output.kernel")]


def _describe(source: Source) -> dict:
    if isinstance(source, Checkpoint):
        return {
            "layout": source.layout.name,
            "directory": source.directory.resolve().name,
            "weights": source.weights.name,
        }
    return {"layout": "params in memory"}
