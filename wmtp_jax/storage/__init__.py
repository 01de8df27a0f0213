"""Where models and data sets are stored, how they are set up and verified."""

from wmtp_jax.storage.checksums import is_complete, write_checksums
from wmtp_jax.storage.paths import resolve

__all__ = ["is_complete", "resolve", "write_checksums"]
