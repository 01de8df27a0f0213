"""Training on several devices: the mesh, and where each array lies on it.

One code path for one device and for many: XLA partitions the program, no collective is written by hand.
"""

from wmtp_jax.parallel.mesh import MESH_AXES, MeshError, make_mesh
from wmtp_jax.parallel.sharding import (
    BATCH_AXES,
    batch_shards,
    constrain,
    constrain_tree,
    global_batch,
    shardings,
    spec,
    specs,
)

__all__ = [
    "BATCH_AXES",
    "MESH_AXES",
    "MeshError",
    "batch_shards",
    "constrain",
    "constrain_tree",
    "global_batch",
    "make_mesh",
    "shardings",
    "spec",
    "specs",
]
