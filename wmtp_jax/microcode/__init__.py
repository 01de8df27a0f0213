"""Embedded tasks: verifiable Python problems, correct and incorrect solutions, from a deterministic generator."""

from wmtp_jax.microcode.corpus import FAMILIES, generate, to_jsonl
from wmtp_jax.microcode.problems import MicrocodeProblem, build, settings
from wmtp_jax.microcode.shipping import MicrocodeError, verify, write

__all__ = [
    "FAMILIES",
    "MicrocodeError",
    "MicrocodeProblem",
    "build",
    "generate",
    "settings",
    "to_jsonl",
    "verify",
    "write",
]
