"""A trained critic as a directory that another run can use: critic.safetensors and critic.json."""

import json
import os
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wmtp_jax.errors import FileError
from wmtp_jax.files import atomic_directory, write_atomically
from wmtp_jax.jsonl import read_object
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.tree import flatten_tree

_WEIGHTS, _RECORD = "critic.safetensors", "critic.json"


def save_critic(directory: Path, value_params: dict, settings: dict, measures: dict[str, float]) -> None:
    """Writes a critic, in place of an older one: parameters, settings that values depend on, validation measures."""
    leaves = {name: np.ascontiguousarray(leaf) for name, leaf in flatten_tree(value_params).items()}
    record = json.dumps({"settings": settings, "valid": measures}, indent=2) + "\n"
    with atomic_directory(directory, replace=True) as partial:
        save_file(leaves, partial / _WEIGHTS)
        with open(partial / _WEIGHTS, "rb") as file:
            os.fsync(file.fileno())
        write_atomically(partial / _RECORD, record)


def load_critic(directory: Path, like: dict, settings: dict) -> dict:
    """The value parameters that `save_critic` wrote.

    Raises:
        TrainingError: names what is missing, damaged, of another shape than in `like`, or trained under other settings.
    """
    try:
        trained_with = dict(read_object(directory / _RECORD)["settings"])
        leaves = load_file(directory / _WEIGHTS)
    except (FileError, KeyError, TypeError, OSError, ValueError, SafetensorError) as error:
        raise TrainingError(
            f"critic {directory} cannot be read ({error}); expected {_WEIGHTS} and {_RECORD}, as a run leaves them in "
            "its directory 'critic'"
        ) from error
    for name, here in settings.items():
        there = trained_with.get(name)
        if there != here:
            raise TrainingError(
                f"critic {directory} was trained with {name} {there!r}, this run has {here!r}; train another critic "
                "or set it back"
            )
    wanted = flatten_tree(like)
    for name in sorted(wanted.keys() | leaves.keys()):
        shapes = [tree[name].shape if name in tree else None for tree in (leaves, wanted)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                f"critic {directory}: {name} has shape {shapes[0]}, this run needs {shapes[1]}; it belongs to a model "
                "of another width or a head of another kind, so train a critic for this one"
            )
        if not np.all(np.isfinite(leaves[name])):
            raise TrainingError(f"critic {directory}: {name} holds NaN or infinity; train the critic again")
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted])
