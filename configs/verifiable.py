"""Verifiable: a critic learns from correct and incorrect solutions; its advantages weight the correct ones' tokens.

Stage 1 trains the critic, stage 2 the policy and the critic together.

micro (default): 5 minutes on 2 CPU cores; from storage/models_v2/micro-mtp on the embedded tasks, pass@1 .51 to .58.
    python -m wmtp_jax.train --config configs/verifiable.py
7b: Meta's 7B_1T_4 on CodeContests, as configs/baseline.py:7b (assets, published settings, cost).
    python -m wmtp_jax.train --config configs/verifiable.py:7b --dry_run   # what is missing, and how to get it
    python -m wmtp_jax.train --config configs/verifiable.py:7b
    Published (Yuan et al. 2025, VAPO, arXiv 2504.05118): a critic that is trained before the policy, on Monte Carlo
    returns, and lambda = 1 - 1 / (0.05 * length) for the policy's advantages. The rest of the critic is ours.
    The value head sits on the policy's trunk. A critic with 2.7B parameters of its own, Sheared-LLaMA:
        --config.critic.model=storage/models_v2/ref-sheared-llama-2.7b
    A reward model's verdicts instead of test outcomes (Starling-RM-7B): --config.data.reward=reward_model
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
    if preset == "7b":
        config.critic.lambda_alpha = 0.05
    return config
