"""Baseline: every response token of a correct solution counts the same.

micro (default): fine-tunes storage/models_v2/micro-mtp on the embedded tasks.
    python -m wmtp_jax.train --config configs/baseline.py
7b: the Meta checkpoint on CodeContests.
    python -m wmtp_jax.train --config configs/baseline.py:7b
"""

from ml_collections import ConfigDict

from configs import defaults


def get_config(preset: str = "micro") -> ConfigDict:
    """Presets: micro, 7b."""
    config = defaults.get_config()
    config.run_name = f"baseline-{preset}"
    if preset == "micro":
        return config
    if preset == "7b":
        return seven_billion(config)
    raise ValueError(f"unknown preset {preset!r}; expected micro or 7b")


def seven_billion(config: ConfigDict) -> ConfigDict:
    """The assets, lengths and rates of a 7B run, over any objective's micro preset."""
    config.model.path = "storage/models_v2/meta-llama-mtp"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.model.attention = "blocked"
    config.data.train = "storage/datasets_v2/codecontests/processed/train.jsonl"
    config.data.valid = "storage/datasets_v2/codecontests/processed/valid.jsonl"
    config.data.template = "alpaca"
    config.data.buckets = (1024, 2048)
    config.optimizer.learning_rate = 1e-5
    config.optimizer.warmup_steps = 200
    config.train.steps = 5000
    config.train.batch_size = 64
    config.train.accumulation = 8
    config.train.checkpoint_every = 500
    config.evaluation.problems = 0
    return config
