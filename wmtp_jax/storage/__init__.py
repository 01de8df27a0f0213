"""Where models and data sets lie, how they are set up, sealed and verified."""

from wmtp_jax.storage.paths import resolve
from wmtp_jax.storage.seal import is_sealed, seal

__all__ = ["is_sealed", "resolve", "seal"]
