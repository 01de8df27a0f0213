"""Flat dictionaries of trees: paths by hand, and back."""

import pytest

from wmtp_jax.model import ModelConfig, param_shapes
from wmtp_jax.tree import flatten_tree, unflatten_tree


def test_paths_by_hand():
    tree = {"trunk": {"w": 1, "b": 2}, "list": [3, {"c": 4}]}
    assert flatten_tree(tree) == {"list/0": 3, "list/1/c": 4, "trunk/b": 2, "trunk/w": 1}
    assert flatten_tree(7) == {"": 7}


@pytest.mark.parametrize("separator", ["/", "."])
def test_parameters_and_back(separator):
    shapes = param_shapes(ModelConfig(dim=4, n_layers=2, n_heads=2, vocab_size=8))
    leaves = flatten_tree(shapes, separator)
    assert leaves[f"trunk{separator}attention{separator}wq"].shape == (1, 4, 2, 2)
    assert unflatten_tree(leaves, separator) == shapes
