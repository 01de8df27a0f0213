"""Rho-1: tokens on which the policy is behind a reference model count more.

micro (default): from storage/models_v2/micro-mtp with storage/models_v2/micro-ref.
    python -m wmtp_jax.train --config configs/rho1_weighted.py
7b: Meta's 7B_1T_4 on CodeContests as configs/baseline.py:7b, with Sheared-LLaMA-2.7B as the reference.
    python -m wmtp_jax.train --config configs/rho1_weighted.py:7b --dry_run   # what is missing, and how to get it
    python -m wmtp_jax.train --config configs/rho1_weighted.py:7b
    Needs storage/models_v2/ref-sheared-llama-2.7b too. Published (Lin et al. 2024, arXiv 2404.07965): the loss of the
    60 to 70 % of tokens with the largest excess (--config.rho1.mode=top_k keeps 60 %), and a reference that is the base
    model tuned on clean data (configs/tune_reference.py:7b). Weighting all tokens, the default here, is ours.
Keep the best tokens instead of weighting all: --config.rho1.mode=top_k
"""

from ml_collections import ConfigDict

from configs import baseline


def get_config(preset: str = "micro") -> ConfigDict:
    """Presets: micro, 7b."""
    config = baseline.get_config(preset)
    config.run_name = f"rho1-{preset}"
    config.objective = "rho1"
    if preset == "7b":
        config.rho1.reference = "storage/models_v2/ref-sheared-llama-2.7b"
    return config
