"""Given: the weights come with the data, as spans of characters of each record's output.

A record may carry `"weights": [[begin, end, weight], ...]`; characters outside the spans weigh 1, and a token weighs
the mean over its characters. Controls and policy_samples work as for every objective.

micro (default): storage/models_v2/micro-mtp on your own records; about 3 minutes on 2 CPU cores for 200 steps.
    python -m wmtp_jax.train --config configs/given.py --config.data.train=weighted.jsonl
7b: Meta's 7B_1T_4, as configs/baseline.py:7b.
    python -m wmtp_jax.train --config configs/given.py:7b --config.data.train=weighted.jsonl
"""

from ml_collections import ConfigDict

from configs import baseline


def get_config(preset: str = "micro") -> ConfigDict:
    """Presets: micro, 7b."""
    config = baseline.get_config(preset)
    config.run_name = f"given-{preset}"
    config.objective = "given"
    return config
