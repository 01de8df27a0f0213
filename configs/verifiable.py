"""Verifiable: a critic learns from right and wrong solutions, its advantages weight the tokens of the right ones.

Stage 1 trains the critic, stage 2 the policy with the critic going on beside it.

micro (default): 8 minutes on 2 CPU cores with 300 steps; from storage/models_v2/micro-mtp on the embedded tasks.
    python -m wmtp_jax.train --config configs/verifiable.py
7b: the Meta checkpoint on CodeContests.
    python -m wmtp_jax.train --config configs/verifiable.py:7b
Controls: --config.weighting.control=shuffled (or uniform, random, solution_mean), --config.loss.heads=next_token,
    --config.data.policy_samples=all
"""

from ml_collections import ConfigDict

from configs import baseline


def get_config(preset: str = "micro") -> ConfigDict:
    """Presets: micro, 7b."""
    config = baseline.get_config(preset)
    config.run_name = f"verifiable-{preset}"
    config.objective = "verifiable"
    config.data.correct_ratio = 0.5
    return config
