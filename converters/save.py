"""Writes a model: one weight at a time from its source, through a thread, to its offset on disk."""

import collections
import dataclasses
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from converters.checkpoint import FLAT, Checkpoint, Folders, open_checkpoint
from converters.errors import ConverterError, check_tensors
from converters.hugging_face import HUGGING_FACE
from converters.inspect import Manifest, read_manifest
from converters.layout import Layout, Origin, Weight, weight_shape
from converters.meta import META
from converters.output import MANIFEST, open_output
from converters.plan import SHARD_BYTES, Plan, make_plan
from converters.tensor import DTYPES, check_finite, parse_dtype
from converters.tree import TREE
from converters.value_head import VALUE_HEAD_FILE, value_head_file
from wmtp_jax.files import check_digest
from wmtp_jax.model import ModelConfig, leaf_shapes
from wmtp_jax.progress import Progress


def save_meta(
    directory: str | Path, config: ModelConfig, params: dict, *, dtype=None, max_shard_bytes=SHARD_BYTES, source=None
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
        ConverterError: params that do not fit the config, NaN or infinity, or a disk that is too small.
        FileError: a directory in use, or that cannot be written.
    """
    _save(META, directory, config, params, dtype, max_shard_bytes, source)


def save_hf(
    directory: str | Path, config: ModelConfig, params: dict, *, dtype=None, max_shard_bytes=SHARD_BYTES, source=None
) -> None:
    """Writes params as a Hugging Face Llama: config.json and model.safetensors; of several heads head 1 is kept.

    Args and Raises as of `save_meta`.
    """
    _save(HUGGING_FACE, directory, config, params, dtype, max_shard_bytes, source)


def save_tree(
    directory: str | Path, config: ModelConfig, params: dict, *, dtype=None, max_shard_bytes=SHARD_BYTES, source=None
) -> None:
    """Writes params as they are: model_config.json and params.safetensors, one tensor per leaf.

    Args and Raises as of `save_meta`.
    """
    _save(TREE, directory, config, params, dtype, max_shard_bytes, source)


def run_plan(
    source,
    plan: Plan,
    directory: Path,
    identity: str,
    copies: list[Path],
    progress: Progress | None = None,
    *,
    folders: Folders = FLAT,
    complete: Callable[[Path], None] | None = None,
) -> None:
    """Writes the model directory of a plan, complete or not at all.

    Args:
        source: as of `make_plan`; the bytes of a checkpoint that has a manifest are compared with it.
        plan: what to write.
        directory: must not exist or be empty.
        identity: equal for conversions that write the same bytes; continues what was killed.
        copies: tokenizer files that travel along.
        progress: in MB, or None for silence.
        folders: in which the files are to lie.
        complete: adds to the directory under its provisional name, after all else and before it gets its own.

    Raises:
        ConverterError: NaN or infinity, values beyond the dtype, a damaged source.
        FileError: a directory in use, or that cannot be written.
    """
    manifest = read_manifest(source) if isinstance(source, Checkpoint) else None
    for name, digest in manifest.files.items() if manifest else ():
        check_digest(source.directory / name, digest, MANIFEST)
    with open_output(directory, plan.files, identity, folders) as output, ThreadPoolExecutor(1) as pool:
        checks, checked = collections.deque(), set()
        for name, tensor in plan.tensors.items():
            # What is written as it was read has the same digest as its source, so it needs no second one.
            if manifest and not plan.unchanged(source, tensor):
                read = {source.refs[weight].tensor for weight, _ in plan.pieces[name]}
                checks += [pool.submit(_check_tensor, source, manifest, each) for each in sorted(read - checked)]
                checked |= read
                while len(checks) > 2:
                    checks.popleft().result()
            if name not in output.digests:
                output.write(name, _counted(plan.chunks(source, tensor), progress))
            elif progress:
                progress.skip(tensor.nbytes / 1e6)
        for check in checks:
            check.result()
        output.drain()
        for tensor in plan.tensors.values() if manifest else ():
            if original := plan.unchanged(source, tensor):
                _check_tensor(source, manifest, original, output.digests[tensor.name])
        name = lambda leaf: plan.target.ref(plan.config, Weight(leaf)).tensor
        # A reader that infers tied embeddings from equality has to be told where they are equal and not tied.
        equal = not plan.config.tie_embeddings and plan.target is not TREE
        equal = equal and output.digests[name("tok_embeddings.embedding")] == output.digests[name("output.kernel")]
        written_config = plan.target.write_config(plan.config, plan.base, plan.dtype, equal)
        written_manifest = {
            "layout": plan.target.name,
            "source": source.description,
            "notes": list(plan.notes),
            "config": dataclasses.asdict(plan.config),
        }
        others = {f"{folders.tokenizer}/{path.name}": path.read_bytes() for path in copies}
        if source.value_head is not None:
            others[f"{folders.weights}/{VALUE_HEAD_FILE}"] = value_head_file(source.value_head)
        output.finish(plan.target.config_names[0], written_config, others, written_manifest, complete)


class _Params:
    """A param tree as a source, whose leaves are brought to the host one at a time."""

    value_head, description = None, {"layout": "params in memory"}

    def __init__(self, config: ModelConfig, params: dict, origin: Origin | None):
        from wmtp_jax.tree import flatten_tree

        self.config, self.origin = config, origin
        self._shapes = leaf_shapes(config)
        self._leaves = flatten_tree(params, ".")
        self._held: tuple[str, np.ndarray] | None = None
        found = {path: tuple(np.shape(leaf)) for path, leaf in self._leaves.items()}
        check_tensors("params", self._shapes, found, "the given ModelConfig")
        for path, leaf in self._leaves.items():
            if np.dtype(leaf.dtype) not in DTYPES.values():
                raise ConverterError(f"params: {path} has the dtype {leaf.dtype}; expected one of {', '.join(DTYPES)}")

    def dtype(self, weight: Weight) -> np.dtype:
        return np.dtype(self._leaves[weight.leaf].dtype)

    def read(self, weight: Weight) -> np.ndarray:
        if self._held is None or self._held[0] != weight.leaf:
            self._held = None
            self._held = weight.leaf, np.asarray(self._leaves[weight.leaf])
        leaf = self._held[1]
        values = np.ascontiguousarray(leaf if weight.layer is None else leaf[weight.layer])
        check_finite(values, f"{weight} of the params")
        return values.reshape(weight_shape(weight.leaf, self._shapes[weight.leaf]))


def _save(layout: Layout, directory, config, params, dtype, max_shard_bytes, source) -> None:
    origin, copies = None, []
    if source is not None:
        opened = open_checkpoint(source)
        origin, copies = opened.origin, opened.tokenizer_files
    in_memory = _Params(config, params, origin)
    plan = make_plan(in_memory, layout, dtype=parse_dtype(dtype), max_shard_bytes=max_shard_bytes)
    run_plan(in_memory, plan, Path(directory), secrets.token_hex(32), copies)


def _check_tensor(source: Checkpoint, manifest: Manifest, name: str, digest: str | None = None) -> None:
    """Raises ConverterError unless a tensor of the source has its digest in the manifest."""
    if (digest or source.tensors[name].sha256()) != manifest.tensors[name].get("sha256"):
        raise ConverterError(
            f"{source.directory}: the tensor {name} differs from its digest in {MANIFEST}; it was changed or "
            "damaged, so fetch or convert it again"
        )


def _counted(pieces: Iterator[np.ndarray], progress: Progress | None) -> Iterator[np.ndarray]:
    for piece in pieces:
        yield piece
        if progress:
            progress.advance(piece.nbytes / 1e6)
