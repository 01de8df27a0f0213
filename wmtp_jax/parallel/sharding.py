"""Which axis of which array is split over which axis of the mesh. One table decides it for all arrays.

All functions look at the mesh that `jax.set_mesh` entered; without one, or on one device, they change nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from wmtp_jax.parallel.mesh import MeshError

PyTree = Any

# Logical name of an array's axis -> axes of the mesh.
BATCH_AXES = ("data", "fsdp")
RULES = (
    ("batch", BATCH_AXES),
    ("embed", "fsdp"),
    ("vocab", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("head_dim", None),
    ("norm", None),
    ("layers", None),
    ("future_tokens", None),
)


def spec(names: tuple[str | None, ...], rules=RULES) -> PartitionSpec:
    """The `PartitionSpec` of an array whose axes have these logical names; None is not split.

    Raises:
        ValueError: a name without a rule, or two axes of the array that would be split over one axis of the mesh.
    """
    axes = [_mesh_axes(name, rules) for name in names]
    used = [axis for entry in axes if entry for axis in ((entry,) if isinstance(entry, str) else entry)]
    if len(used) != len(set(used)):
        raise ValueError(f"axes {names} would be split over {used}, one axis of the mesh twice")
    return PartitionSpec(*axes)


def _mesh_axes(name: str | None, rules) -> str | tuple[str, ...] | None:
    if name is None:
        return None
    for known, axes in rules:
        if known == name:
            return axes
    raise ValueError(f"no rule says how the axis {name!r} is split; expected one of {[known for known, _ in rules]}")


def batch_shards(n_rows: int) -> int:
    """Into how many equal parts a batch of rows is split; 1 where it does not divide."""
    n_parts = _n_parts(jax.sharding.get_abstract_mesh(), BATCH_AXES)
    return 1 if n_rows % n_parts else n_parts


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """The same array, laid out by the logical names of its axes; an axis that does not divide is not split."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    divided = [None if size % _n_parts(mesh, axes) else axes for size, axes in zip(x.shape, spec(names), strict=True)]
    return jax.lax.with_sharding_constraint(x, _as_jit_writes_it(mesh, divided))


def _as_jit_writes_it(mesh: Any, axes: Sequence) -> PartitionSpec:
    """Without axes of one device and without None at the end: a step would compile again for its own output."""
    entries = [entry if _n_parts(mesh, entry) > 1 else None for entry in axes]
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def _n_parts(mesh: Any, axes: str | tuple[str, ...] | None) -> int:
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape.get(name, 1) for name in names)


def specs(tree: PyTree, logical_axes: PyTree) -> PyTree:
    """A `PartitionSpec` per leaf of parameters, or of anything that holds parameters: a train state.

    Args:
        tree: arrays or their shapes.
        logical_axes: of `wmtp_jax.model.logical_axes`. A leaf whose path ends with a parameter's path (the moments of
            an optimiser, a critic's own network) is split as that parameter; every other leaf is replicated.
    """
    path_of = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    is_spec = lambda x: isinstance(x, PartitionSpec)
    named = jax.tree_util.tree_leaves_with_path(logical_axes, is_leaf=is_spec)
    by_path = {path_of(path): spec(tuple(names)) for path, names in named}

    def leaf_spec(path, leaf) -> PartitionSpec:
        parts = path_of(path).split("/")
        for start in range(len(parts)):
            found = by_path.get("/".join(parts[start:]))
            if found is not None and len(found) == leaf.ndim:
                return found
        return PartitionSpec()

    return jax.tree_util.tree_map_with_path(leaf_spec, tree)


def shardings(tree: PyTree, logical_axes: PyTree) -> PyTree:
    """`specs` on the mesh; without one, the default device for every leaf.

    Raises:
        MeshError: an axis does not divide.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda _: device, tree)

    def leaf_sharding(path, leaf, leaf_spec):
        for size, axes in zip(leaf.shape, leaf_spec, strict=False):
            if size % _n_parts(mesh, axes):
                raise MeshError(
                    f"config.mesh.{axes} is {_n_parts(mesh, axes)}, which does not divide {size}, an axis of "
                    f"{jax.tree_util.keystr(path, simple=True, separator='/')} {list(leaf.shape)}; "
                    f"give a size of {axes} that divides it"
                )
        return NamedSharding(mesh, _as_jit_writes_it(mesh, leaf_spec))

    return jax.tree_util.tree_map_with_path(leaf_sharding, tree, specs(tree, logical_axes))


def constrain_tree(tree: PyTree, logical_axes: PyTree) -> PyTree:
    """The same tree, laid out by `specs`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree
    constrained = lambda leaf, axes: jax.lax.with_sharding_constraint(leaf, _as_jit_writes_it(mesh, axes))
    return jax.tree.map(constrained, tree, specs(tree, logical_axes))


def global_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array | np.ndarray]:
    """The rows that this process made, arrays [B / number of processes, ...], as its part of the global batch."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return batch
    rows = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}
