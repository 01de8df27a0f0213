"""Weighted multi-token prediction for code language models, in JAX."""
