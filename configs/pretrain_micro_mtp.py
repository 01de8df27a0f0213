"""How storage/models_v2/micro-mtp was made: multi-token pretraining on the unlabelled tasks, bugs included.

7 minutes on 2 CPU cores; the run's export directory is the shipped model.
    python -m wmtp_jax.train --config configs/pretrain_micro_mtp.py
"""

from ml_collections import ConfigDict

from configs import defaults


def get_config() -> ConfigDict:
    """A fresh 4-head model of 1.8M parameters."""
    config = defaults.get_config()
    config.run_name = "micro-mtp"
    config.model.path = ""
    config.model.tokenizer = "storage/models_v2/micro-mtp/tokenizer.model"
    config.model.architecture = ConfigDict(
        {
            "dim": 128,
            "n_layers": 8,
            "n_heads": 8,
            "n_kv_heads": 4,
            "vocab_size": 1024,
            "n_future_tokens": 4,
            "multiple_of": 64,
            "max_seq_len": 512,
        }
    )
    config.data.train = "storage/datasets_v2/microcode/pretrain.jsonl.gz"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 100
    config.train.batch_size = 16
    config.train.steps = 1400
    config.train.checkpoint_every = 400
    config.export.dtype = "float16"
    return config
