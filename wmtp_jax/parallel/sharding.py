"""Which axis of which array is split over which axis of the mesh. One table decides it for all arrays.

All functions look at the mesh that `jax.set_mesh` entered; without one, or on one device, they change nothing.
"""

import math
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


def batch_shards() -> int:
    """Into how many parts the rows of a batch are split."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(axis, 1) for axis in BATCH_AXES)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """The same array, laid out by the logical names of its axes."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, spec(names))


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


def shardings(tree: PyTree, logical_axes: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """`specs` on a mesh.

    Raises:
        MeshError: an axis does not divide.
    """

    def leaf_sharding(path, leaf, leaf_spec):
        for size, axes in zip(leaf.shape, leaf_spec, strict=False):
            names = (axes,) if isinstance(axes, str) else axes or ()
            parts = math.prod(mesh.shape[name] for name in names)
            if size % parts:
                raise MeshError(
                    f"config.mesh splits {jax.tree_util.keystr(path, simple=True, separator='/')} of shape "
                    f"{list(leaf.shape)} over {' and '.join(names)} into {parts} parts, which {size} does not divide "
                    f"into; choose a size of {' or '.join(names)} that divides it"
                )
        return NamedSharding(mesh, leaf_spec)

    return jax.tree_util.tree_map_with_path(leaf_sharding, tree, specs(tree, logical_axes))


def constrain_tree(tree: PyTree, logical_axes: PyTree) -> PyTree:
    """The same tree, laid out by `specs`."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, specs(tree, logical_axes))


def global_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """The rows that this process made become its part of the global batch.

    Args:
        batch: arrays [B / number of processes, ...].
        mesh: of all processes.
    """
    rows = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}
