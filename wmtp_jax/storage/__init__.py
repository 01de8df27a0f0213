"""Where models and data sets lie."""

from wmtp_jax.storage.paths import resolve

__all__ = ["resolve"]
