"""How storage/models_v2/micro-ref was made: a plain Llama on the clean part of the unlabelled tasks.

6 minutes on 2 CPU cores; the run's export directory is the shipped model.
    python -m wmtp_jax.train --config configs/pretrain_micro_ref.py
"""

from ml_collections import ConfigDict

from configs import pretrain_micro_mtp


def get_config() -> ConfigDict:
    """micro-mtp's trunk and next-token head, without the other heads."""
    config = pretrain_micro_mtp.get_config()
    config.run_name = "micro-ref"
    config.model.architecture.n_layers = 5
    config.model.architecture.n_future_tokens = 1
    config.train.steps = 2000
    config.data.clean_only = True
    config.export.layout = "hf"
    return config
