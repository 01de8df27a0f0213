"""A reference for Rho-1: the base model tuned on clean data, before configs/rho1_weighted.py compares with it.

Clean are the correct solutions; only the next token is learned (Lin et al. 2024, arXiv 2404.07965, section 2.2).

micro (default): storage/models_v2/micro-ref on the correct solutions of the embedded tasks.
    python -m wmtp_jax.train --config configs/tune_reference.py
7b: Sheared-LLaMA-2.7B, which shares the Meta checkpoint's tokenizer, on the correct solutions of CodeContests.
    python -m wmtp_jax.train --config configs/tune_reference.py:7b
The run's export directory is the reference.
"""

from ml_collections import ConfigDict

from configs import baseline, defaults


def get_config(preset: str = "micro") -> ConfigDict:
    """Presets: micro, 7b."""
    config = defaults.get_config()
    config.run_name = f"reference-{preset}"
    if preset == "7b":
        config = baseline.seven_billion(config)
        config.model.path = "storage/models_v2/ref-sheared-llama-2.7b"
    elif preset == "micro":
        config.model.path = "storage/models_v2/micro-ref"
    else:
        raise ValueError(f"unknown preset {preset!r}; expected micro or 7b")
    config.data.policy_samples = "correct"
    config.export.layout = "hf"
    return config
