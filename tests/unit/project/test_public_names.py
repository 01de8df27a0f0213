"""Names and signatures that scripts outside the project rely on (DESIGN 9)."""

import importlib
import inspect

import pytest

NAMES = {
    "wmtp_jax.model": {"ModelConfig": None, "MTPTransformer": None},
    "converters": {
        "load_meta": ("directory", "dtype", "shardings"),
        "load_hf": ("directory", "dtype", "shardings"),
        "save_meta": ("directory", "config", "params"),
        "save_hf": ("directory", "config", "params"),
    },
    "wmtp_jax.losses": {"linear_cross_entropy": None},
    "wmtp_jax.weighting": {
        "token_advantages": ("values", "is_correct", "target_mask", "gamma", "lambda_"),
        "token_weights": ("scores", "mask", "normalization", "temperature", "entropy_floor", "clip", "statistics"),
        "rho1_weights": ("policy_nll", "reference_nll", "mask", "mode", "temperature", "keep_fraction", "clip"),
    },
    "wmtp_jax.decoding": {
        "generate": (
            *("params", "config", "prompts", "max_new_tokens", "temperature", "top_p", "eos_id", "speculate", "seed"),
        )
    },
    "wmtp_jax.evaluation": {
        "pass_at_k": ("n", "c", "k"),
        "run_program": ("source", "tests", "timeout_s", "memory_bytes", "stdin"),
    },
}


@pytest.mark.parametrize("module", NAMES)
def test_names_and_parameters(module):
    for name, parameters in NAMES[module].items():
        found = getattr(importlib.import_module(module), name)
        for parameter in parameters or ():
            assert parameter in inspect.signature(found).parameters, (name, parameter)
