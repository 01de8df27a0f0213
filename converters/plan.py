"""What a conversion will write: which tensor comes from which weights, in which dtype, into which file."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.checkpoint import Checkpoint
from converters.errors import ConverterError
from converters.layout import Layout, Weight, copy_tiled, from_weight
from converters.output import OutputTensor
from converters.tensor import as_bits, cast
from converters.tree import TREE
from wmtp_jax.files import json_digest
from wmtp_jax.model import ModelConfig

SHARD_BYTES = 5 * 10**9
_CHUNK_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True)
class Plan:
    """A conversion, decided: the layout and architecture that are written, and how.

    Attributes:
        pieces: per target tensor the (source weight, target weight) pairs whose numbers make it up, in order.
        files: target tensors per file.
        base: config file to start from, when the model returns to the layout of its origin.
        notes: sentences for the user about what is added or left out.
    """

    target: Layout
    config: ModelConfig
    pieces: dict[str, list[tuple[Weight, Weight]]]
    files: dict[str, list[OutputTensor]]
    base: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, OutputTensor]:
        """Every target tensor by name, in the order of writing."""
        return {tensor.name: tensor for tensors in self.files.values() for tensor in tensors}

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """Name of the element type that most bytes have: what a config file calls the model's dtype."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + tensor.nbytes
        return max(sizes, key=sizes.__getitem__)

    def unchanged(self, source: Checkpoint, tensor: OutputTensor) -> str | None:
        """The source's tensor that has the very bytes of a target tensor; None when they are rearranged or cast."""
        read = [source.refs[weight] for weight, _ in self.pieces[tensor.name]]
        written = [self.target.ref(self.config, weight) for _, weight in self.pieces[tensor.name]]
        stored = source.tensors[read[0].tensor]
        alike = read == [dataclasses.replace(ref, tensor=stored.name) for ref in written]
        return stored.name if alike and (stored.shape, stored.dtype) == (tensor.shape, tensor.dtype) else None

    def chunks(self, source, tensor: OutputTensor) -> Iterator[np.ndarray]:
        """The bytes of a target tensor as contiguous arrays of some MB; holds one weight at a time."""
        for read, written in self.pieces[tensor.name]:
            weight = source.read(read)
            rows = from_weight(as_bits(weight), self.target.ref(self.config, written).transform, self.config.head_dim)
            step = max(1, _CHUNK_BYTES // (rows.itemsize * rows[0].size))
            for start in range(0, len(rows), step):
                # Always a copy: a chunk that is still being written must not keep the whole weight in memory.
                copied = np.empty_like(rows[start : start + step], order="C")
                copy_tiled(copied, rows[start : start + step])
                yield cast(copied.view(weight.dtype), tensor.dtype, tensor.name)


def make_plan(
    source, target: Layout, *, dtype: np.dtype | None = None, grow_heads: int | None = None, max_shard_bytes=SHARD_BYTES
) -> Plan:
    """Decides a conversion without reading weights.

    Args:
        source: a `Checkpoint`, params, or what else has their config, origin, value_head, description, dtype and read.
        target: layout to write.
        dtype: of what is written; None keeps the source's.
        grow_heads: number of heads to give to a plain Llama, or None.
        max_shard_bytes: size above which the weights become several files.

    Raises:
        ConverterError: heads cannot be grown, or layers of one leaf differ in dtype.
    """
    config, notes = _target_config(source.config, target, grow_heads)
    pieces: dict[str, list[tuple[Weight, Weight]]] = {}
    for weight, ref in target.refs(config).items():
        read = weight
        if weight.leaf.startswith("heads."):
            read = Weight(weight.leaf, min(weight.layer, source.config.n_future_tokens - 1))
        pieces.setdefault(ref.tensor, []).append((read, weight))
    origin = source.origin
    at_home = origin is not None and origin.layout == target.name
    tied_copy = config.tie_embeddings and (origin.tied_copy if at_home else target.writes_tied_copy)
    if tied_copy:
        pieces[target.tied_name] = [(Weight("tok_embeddings.embedding"), Weight("tok_embeddings.embedding"))]
    base = origin.config if at_home else {}
    if target is TREE and origin is not None and not at_home:
        base = {"origin": dataclasses.asdict(origin)}
    shapes = target.tensor_shapes(config, tied_copy)
    tensors = [OutputTensor(name, shapes[name], dtype or _dtype(source, name, pieces[name])) for name in pieces]
    return Plan(target, config, pieces, _files(tensors, target.stem, max_shard_bytes), base, notes)


def fingerprint(source: Checkpoint, plan: Plan) -> str:
    """A digest of everything that determines the bytes of a conversion, without reading weights."""
    files = sorted({tensor.path for tensor in source.tensors.values()} | {source.weights})
    files += [source.value_head.path] if source.value_head else []
    stamps = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    written = [[file, t.name, t.shape, t.dtype.name] for file, tensors in plan.files.items() for t in tensors]
    architecture = dataclasses.asdict(plan.config)
    return json_digest([stamps, dataclasses.asdict(source.origin), plan.target.name, architecture, written])


def _target_config(config: ModelConfig, target: Layout, grow_heads: int | None) -> tuple[ModelConfig, tuple[str, ...]]:
    N = config.n_future_tokens
    if grow_heads is not None:
        if N != 1:
            raise ConverterError(f"--grow_heads turns a model of one head into an MTP model; this one has {N} heads")
        if target.name == "hf":
            raise ConverterError("--grow_heads: a Hugging Face Llama keeps one head only; convert to meta or flax")
        n_layers = config.n_layers + grow_heads - 1
        grown = dataclasses.replace(config, n_layers=n_layers, n_future_tokens=grow_heads)
        return grown, (f"heads 2 to {grow_heads} are copies of the last layer",)
    if target.name == "hf" and N > 1:
        kept = dataclasses.replace(config, n_layers=config.n_layers - N + 1, n_future_tokens=1)
        note = f"a Hugging Face Llama has one head: trunk and head 1 are kept, heads 2 to {N} are left out"
        return kept, (note,)
    return config, ()


def _dtype(source, name: str, pieces: list[tuple[Weight, Weight]]) -> np.dtype:
    dtypes = {source.dtype(read) for read, _ in pieces}
    if len(dtypes) > 1:
        names = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise ConverterError(f"the layers of {name} are stored as {names}; say which dtype all of them are to have")
    return dtypes.pop()


def _files(tensors: list[OutputTensor], stem: str, max_shard_bytes: int) -> dict[str, list[OutputTensor]]:
    """Tensors per file, in order: stem.safetensors, or shards stem-00001-of-00003.safetensors of limited size."""
    shards: list[list[OutputTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    if len(shards) == 1:
        return {f"{stem}.safetensors": shards[0]}
    return {f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards, 1)}
