"""Generation: sampling laws, KV-cached decoding, self-speculation with the model's own heads."""

from wmtp_jax.decoding.generation import DecodingError, Generation, generate

__all__ = ["DecodingError", "Generation", "generate"]
