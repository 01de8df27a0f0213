"""Torch reference of Meta's multi-token-prediction LLaMA: the oracle of the parity tests, not a product.

Written for this project from the published description (see VERSION and NOTICE). It prefers plain code to fast code.
"""

from vendor.meta_llama.generation import LLaMA
from vendor.meta_llama.model import ModelArgs, Transformer
from vendor.meta_llama.tokenizer import Tokenizer

__all__ = ["LLaMA", "ModelArgs", "Tokenizer", "Transformer"]
