"""Generation: sampling, KV-cached decoding, self-speculation with the model's own heads."""

from wmtp_jax.decoding.cached import unstack_layers
from wmtp_jax.decoding.generation import DecodingError, Generation, generate, next_token_model
from wmtp_jax.decoding.sampling import SamplingParams, sampling_probs
from wmtp_jax.decoding.text import generate_text

__all__ = [
    "DecodingError",
    "Generation",
    "SamplingParams",
    "generate",
    "generate_text",
    "next_token_model",
    "sampling_probs",
    "unstack_layers",
]
