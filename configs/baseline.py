"""Baseline: every response token of a correct solution counts the same.

micro (default): fine-tunes storage/models_v2/micro-mtp on the embedded tasks; 3 minutes on 2 CPU cores, pass@1 .51 to
    .71.
    python -m wmtp_jax.train --config configs/baseline.py
7b: Meta's 7B_1T_4 on CodeContests.
    python -m wmtp_jax.train --config configs/baseline.py:7b --dry_run   # what is missing, and the command that gets it
    python -m wmtp_jax.train --config configs/baseline.py:7b
    Needs storage/models_v2/meta-llama-mtp (gated, research licence; one file of 25 GB) and
    storage/datasets_v2/codecontests.
    Published (Gloeckle et al. 2024, arXiv 2404.19737, table S13): Adam with betas 0.9 and 0.95, weight decay 0.1,
    linear warm-up, cosine decay; gradients clipped to 0.1 in fine-tuning on CodeContests (of the sum of the heads'
    losses; here of their mean). Learning rate, batch size and number of steps are ours.
    Cost: 6,738,415,616 parameters with Adam in float32 are 81 GB before activations; four heads take 1.07 times the
    time of one (there, appendix C). Fine-tuning the next token alone did best there: --config.loss.heads=next_token
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
    config.optimizer.clip_norm = 0.1
    config.train.steps = 5000
    config.train.batch_size = 64
    config.train.accumulation = 8
    config.train.checkpoint_every = 500
    config.evaluation.problems = 0
    return config
