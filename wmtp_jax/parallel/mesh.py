"""The devices of a run, arranged along three axes."""

import math
from collections.abc import Mapping, Sequence

import jax

from wmtp_jax.errors import UserError

# data: rows of the batch are split, parameters are replicated. fsdp: rows and parameters are split. tensor: heads,
# feed-forward width and vocabulary are split.
MESH_AXES = ("data", "fsdp", "tensor")


class MeshError(UserError):
    """A mesh that these devices, this batch or this model cannot be divided over."""


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh of all devices, to be entered with `jax.set_mesh`.

    Args:
        sizes: number of devices along each of MESH_AXES; one of them may be -1 and takes the rest.
        devices: None for all of all processes.

    Raises:
        MeshError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = [sizes[name] for name in MESH_AXES]
    given = " x ".join(f"{name} {size}" for name, size in zip(MESH_AXES, shape, strict=True))
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and len(devices) % known == 0:
        shape[shape.index(-1)] = len(devices) // known
    if shape.count(-1) or math.prod(shape) != len(devices):
        raise MeshError(
            f"config.mesh is {given}, but there are {len(devices)} devices; expected sizes whose product is "
            f"{len(devices)}, of which one may be -1 for the rest"
        )
    auto = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
    return jax.make_mesh(tuple(shape), MESH_AXES, axis_types=auto, devices=devices)
