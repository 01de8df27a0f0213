"""What the network computes: architecture, parameters, forward pass."""

from typing import TYPE_CHECKING

from wmtp_jax.model.config import ModelConfig, ModelConfigError, RopeScaling, derived_ffn_dim, leaf_shapes

if TYPE_CHECKING:
    from wmtp_jax.model.transformer import MTPTransformer, init_params, logical_axes, param_shapes, with_heads
    from wmtp_jax.model.value_head import ValueHead

__all__ = [
    "MTPTransformer",
    "ModelConfig",
    "ModelConfigError",
    "RopeScaling",
    "ValueHead",
    "derived_ffn_dim",
    "init_params",
    "leaf_shapes",
    "logical_axes",
    "param_shapes",
    "with_heads",
]


def __getattr__(name: str):
    """Imports the network when it is first asked for: what only needs an architecture never imports jax."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wmtp_jax.model import transformer, value_head

    return getattr(value_head if name == "ValueHead" else transformer, name)
