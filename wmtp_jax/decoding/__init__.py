"""Generation: sampling laws, KV-cached decoding, self-speculation with the model's own heads."""

from wmtp_jax.decoding.cached import part_layers
from wmtp_jax.decoding.generation import DecodingError, Generation, generate, next_token_model
from wmtp_jax.decoding.law import Sampling, sampling_law
from wmtp_jax.decoding.text import cut, generate_text

__all__ = [
    "DecodingError",
    "Generation",
    "Sampling",
    "cut",
    "generate",
    "generate_text",
    "next_token_model",
    "part_layers",
    "sampling_law",
]
