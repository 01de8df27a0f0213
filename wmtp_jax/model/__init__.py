"""What the network computes: architecture, parameters, forward pass."""

from wmtp_jax.model.config import ModelConfig, ModelConfigError, RopeScaling, derived_ffn_dim
from wmtp_jax.model.transformer import (
    MTPTransformer,
    init_params,
    logical_axes,
    param_shapes,
    with_heads,
)
from wmtp_jax.model.value_head import ValueHead

__all__ = [
    "MTPTransformer",
    "ModelConfig",
    "ModelConfigError",
    "RopeScaling",
    "ValueHead",
    "derived_ffn_dim",
    "init_params",
    "logical_axes",
    "param_shapes",
    "with_heads",
]
