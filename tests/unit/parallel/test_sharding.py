"""Which axis of which array is split over which axis of the mesh."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from wmtp_jax.model import ModelConfig, logical_axes, param_shapes
from wmtp_jax.parallel import MeshError, constrain, global_batch, make_mesh, shardings, spec, specs

TABLE = json.loads((Path(__file__).parent / "golden_specs.json").read_text(encoding="utf-8"))
TINY = ModelConfig(dim=8, n_layers=3, n_heads=2, vocab_size=6, n_future_tokens=2, ffn_dim=4, max_seq_len=8)


def by_path(tree) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_every_parameter_lies_as_the_golden_table_says():
    assert {
        path: list(entry) for path, entry in by_path(specs(param_shapes(TINY), logical_axes(TINY))).items()
    } == TABLE


def test_moments_lie_as_their_parameter_and_counters_everywhere():
    shapes, axes = param_shapes(TINY), logical_axes(TINY)
    state = {"params": shapes, "opt_state": {"mu": shapes, "count": jax.ShapeDtypeStruct((), np.int32)}}
    found = by_path(specs(state, axes))
    assert {path: list(found[f"opt_state/mu/{path}"]) for path in TABLE} == TABLE
    assert found["opt_state/count"] == PartitionSpec()


def test_an_axis_without_a_rule_and_a_collision_raise():
    with pytest.raises(ValueError, match="no rule says how the axis 'experts' is split"):
        spec(("experts", "embed"))
    with pytest.raises(ValueError, match="one axis of the mesh twice"):
        spec(("heads", "mlp"))
    with pytest.raises(ValueError, match="one axis of the mesh twice"):
        spec(("batch", "embed"))


@pytest.mark.parametrize("sizes", [(2, 1, 1), (-1, -1, 1), (-1, 3, 1)])
def test_a_mesh_that_is_not_all_devices_is_refused(sizes):
    with pytest.raises(MeshError, match=r"config\.mesh is data .* but there are 1 devices"):
        make_mesh(dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))


def test_one_device_is_a_mesh_like_any_other():
    with jax.set_mesh(make_mesh({"data": -1, "fsdp": 1, "tensor": 1})):
        tree = shardings(param_shapes(TINY), logical_axes(TINY))
        assert all(leaf.spec == PartitionSpec() for leaf in jax.tree.leaves(tree))
        batch = global_batch({"tokens": np.arange(6).reshape(3, 2)})
        np.testing.assert_array_equal(constrain(batch["tokens"], "batch", None), [[0, 1], [2, 3], [4, 5]])


def test_without_a_mesh_nothing_changes():
    array = np.ones((2, 2))
    assert constrain(array, "batch", None) is array
    assert global_batch({"tokens": array})["tokens"] is array
