"""Embedded tasks: verifiable Python problems with right and wrong solutions, made by a deterministic generator."""

from wmtp_jax.microcode.corpus import FAMILIES, generate, to_jsonl
from wmtp_jax.microcode.family import Argument, Family
from wmtp_jax.microcode.problems import MicrocodeProblem, build, settings
from wmtp_jax.microcode.shipping import MicrocodeError, verify, write

__all__ = [
    "FAMILIES",
    "Argument",
    "Family",
    "MicrocodeError",
    "MicrocodeProblem",
    "build",
    "generate",
    "settings",
    "to_jsonl",
    "verify",
    "write",
]
