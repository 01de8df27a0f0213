"""Reads a model into a JAX param tree, leaf by leaf and straight into its shards."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.checkpoint import Checkpoint, open_checkpoint
from converters.errors import ConverterError
from converters.layout import Weight, copy_tiled, weights_of
from converters.tensor import as_bits, cast, check_finite, parse_dtype
from converters.value_head import VALUE_HEAD
from wmtp_jax.model import ModelConfig

if TYPE_CHECKING:  # jax is imported where arrays are made: converting files needs none of it.
    import jax

Shardings = dict | Callable[[ModelConfig], dict] | None


def load(directory: str | Path, dtype=None, shardings: Shardings = None) -> tuple[ModelConfig, dict]:
    """Reads a model of any layout (found by its config file).

    Args:
        directory: holds config and weights.
        dtype: of the params: "float32", "float16", "bfloat16" or such a dtype; None keeps the file's.
        shardings: a tree like the params of `jax.sharding.Sharding`, or a function of the architecture that gives one;
            None puts each leaf on the default device.

    Returns:
        The architecture, and params as a nested dict shaped as `wmtp_jax.model.param_shapes(config)`.

    Raises:
        ConverterError: not a model, tensors that do not fit the config, damaged files, NaN or infinity.
        FileError: a config or an index that is no JSON object.
    """
    return _load(open_checkpoint(directory), dtype, shardings)


def load_meta(directory: str | Path, dtype=None, shardings: Shardings = None) -> tuple[ModelConfig, dict]:
    """Reads a Meta model: params.json with consolidated.pth or safetensors. Otherwise as `load`."""
    return _load(open_checkpoint(directory, "meta"), dtype, shardings)


def load_hf(directory: str | Path, dtype=None, shardings: Shardings = None) -> tuple[ModelConfig, dict]:
    """Reads a Hugging Face Llama: config.json with safetensors or pytorch_model.bin. Otherwise as `load`."""
    return _load(open_checkpoint(directory, "hf"), dtype, shardings)


def load_tree(directory: str | Path, dtype=None, shardings: Shardings = None) -> tuple[ModelConfig, dict]:
    """Reads what `save_tree` wrote. Otherwise as `load`."""
    return _load(open_checkpoint(directory, "flax"), dtype, shardings)


def load_reward_model(
    directory: str | Path, dtype=None, shardings: Shardings = None
) -> "tuple[ModelConfig, dict, jax.Array]":
    """Reads a reward model: a backbone in any layout with a value head, such as Starling-RM-7B-alpha.

    Args:
        directory: as published (the backbone twice in one state dict), or as we write it.
        dtype: as of `load`, of the value head too.
        shardings: as of `load`, of the backbone.

    Returns:
        The architecture, the backbone's params, and the value head's kernel [D, 1].
    """
    import jax

    checkpoint = open_checkpoint(directory)
    if checkpoint.value_head is None:
        raise ConverterError(f"{directory}: has no value head ({VALUE_HEAD}); expected a reward model")
    config, params = _load(checkpoint, dtype, shardings)
    kernel_1xD = checkpoint.value_head.read()
    check_finite(kernel_1xD, VALUE_HEAD)
    return config, params, jax.numpy.asarray(kernel_1xD.T, parse_dtype(dtype) or kernel_1xD.dtype)


def _load(checkpoint: Checkpoint, dtype, shardings: Shardings) -> tuple[ModelConfig, dict]:
    from wmtp_jax.tree import flatten_tree, unflatten_tree

    wanted = parse_dtype(dtype)
    if callable(shardings):
        shardings = shardings(checkpoint.config)
    by_leaf = None if shardings is None else flatten_tree(shardings, ".")
    leaves = {}
    for leaf, shape in checkpoint.shapes.items():
        if by_leaf is not None and leaf not in by_leaf:
            raise ConverterError(f"shardings have no entry for {leaf}; expected a tree like the params")
        leaves[leaf] = _read_leaf(checkpoint, leaf, shape, wanted, by_leaf and by_leaf[leaf])
    return checkpoint.config, unflatten_tree(leaves, ".")


def _read_leaf(checkpoint: Checkpoint, leaf: str, shape: tuple, wanted: np.dtype | None, sharding) -> "jax.Array":
    """One leaf; each weight is read once and only what this process holds is allocated."""
    import jax

    weights = weights_of(checkpoint.config, leaf)
    found = {checkpoint.dtype(weight) for weight in weights}
    if wanted is None and len(found) > 1:
        names = ", ".join(sorted(dtype.name for dtype in found))
        raise ConverterError(f"{checkpoint.directory}: the layers of {leaf} are stored as {names}; give a dtype")
    dtype = wanted or found.pop()
    whole = (slice(None),) * len(shape)
    indices = [whole] if sharding is None else sharding.addressable_devices_indices_map(shape).values()
    held = {_bounds(index, shape) for index in indices}
    regions = {bounds: np.empty([stop - start for start, stop in bounds], dtype) for bounds in held}
    for weight in weights:
        _fill(checkpoint, weight, shape, regions)
    if sharding is None:
        return jax.device_put(regions[_bounds(whole, shape)])
    return jax.make_array_from_callback(shape, sharding, lambda index: regions[_bounds(index, shape)])


def _bounds(index: tuple, shape: tuple) -> tuple[tuple[int, int], ...]:
    index = (*index, *[slice(None)] * (len(shape) - len(index)))
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _fill(checkpoint: Checkpoint, weight: Weight, leaf_shape: tuple, regions: dict) -> None:
    """Copies one weight into the regions that hold a part of it."""
    stacked = weight.layer is not None
    holding = {
        bounds: region[weight.layer - bounds[0][0]] if stacked else region
        for bounds, region in regions.items()
        if not stacked or bounds[0][0] <= weight.layer < bounds[0][1]
    }
    if not holding:
        return
    matrix = checkpoint.read(weight)
    values = as_bits(matrix).reshape(leaf_shape[1:] if stacked else leaf_shape)  # Splits an axis of a view: no copy.
    for bounds, target in holding.items():
        part = values[tuple(slice(start, stop) for start, stop in (bounds[1:] if stacked else bounds))]
        if target.dtype == matrix.dtype:
            copy_tiled(as_bits(target), part)
            continue
        copied = np.empty(part.shape, part.dtype)
        copy_tiled(copied, part)
        target[...] = cast(copied.view(matrix.dtype), target.dtype, str(weight))
