"""Where models and data sets are stored, how they are set up and verified."""

from wmtp_jax.storage.assets import is_complete, resolve, write_checksums

__all__ = ["is_complete", "resolve", "write_checksums"]
