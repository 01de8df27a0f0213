"""Per-head normalised cross-entropy and value losses."""

from wmtp_jax.losses.chunks import chunk_logits, scan_chunks
from wmtp_jax.losses.cross_entropy import linear_cross_entropy, token_scores
from wmtp_jax.losses.targets import coefficients, head_targets, shifted, target_weights, valid_targets

__all__ = [
    "chunk_logits",
    "coefficients",
    "head_targets",
    "linear_cross_entropy",
    "scan_chunks",
    "shifted",
    "target_weights",
    "token_scores",
    "valid_targets",
]
