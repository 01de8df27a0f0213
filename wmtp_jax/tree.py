"""Trees of nested dictionaries as one flat dictionary, and back: {"trunk/attention/wq": leaf, ...}."""

from collections.abc import Mapping
from typing import Any

import jax


def flatten_tree(tree: Any, separator: str = "/") -> dict[str, Any]:
    """The leaves of any pytree by the path that leads to them, in JAX's order (keys sorted)."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=separator): leaf for path, leaf in leaves}


def unflatten_tree(leaves: Mapping[str, Any], separator: str = "/") -> dict:
    """Nested dictionaries with these leaves; the inverse of `flatten_tree` for a tree of dictionaries."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(separator)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
