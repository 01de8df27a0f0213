"""Sets up storage/datasets_v2/NAME from published files: records, their index, tests for the evaluator, statistics."""

from wmtp_jax.storage.datasets.build import build
from wmtp_jax.storage.datasets.settings import Settings

__all__ = ["Settings", "build"]
