"""Every field of a training config, with the values of the micro preset.

An experiment starts from here and changes what makes it that experiment. Each field can be set on the command line:
`--config.optimizer.learning_rate=3e-4`. Paths are relative to the working directory or else to the project's root.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The baseline on the shipped micro model and the embedded tasks."""
    config = ConfigDict()
    config.run_name = "baseline"
    config.seed = 0

    config.model = ConfigDict()
    config.model.path = "storage/models_v2/micro-mtp"  # or "" for a fresh one
    config.model.tokenizer = ""  # "" takes the one beside the model
    config.model.architecture = ConfigDict()  # fields of ModelConfig, for a fresh model
    config.model.dtype = "float32"  # of the computation; masters are float32
    config.model.remat = "none"  # none, dots, full
    config.model.attention = "dense"  # dense, blocked

    config.data = ConfigDict()
    config.data.train = "storage/datasets_v2/microcode/train.jsonl.gz"
    config.data.valid = "storage/datasets_v2/microcode/valid.jsonl.gz"
    config.data.template = "raw"  # raw, alpaca
    config.data.policy_samples = "correct"  # correct, all
    config.data.clean_only = False  # keep only records marked clean, where there are no labels
    config.data.buckets = (64, 96, 128)  # padded lengths; a record longer than the last is over-long
    config.data.over_length = "drop"  # drop, error
    config.data.pack = False  # several documents per row of the longest bucket

    config.loss = ConfigDict()
    config.loss.head_weights = ()  # a_k, one per head; () is 1/N each
    config.loss.chunk_length = 128  # positions per chunk of logits

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.final_fraction = 0.1
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.95
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0

    config.train = ConfigDict()
    config.train.steps = 300
    config.train.batch_size = 32  # rows per step
    config.train.accumulation = 1  # micro-batches per step
    config.train.log_every = 10
    config.train.checkpoint_every = 100
    config.train.keep_checkpoints = 2
    config.train.max_skipped = 10  # non-finite steps in a row before the run stops

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 64
    config.evaluation.problems = 100  # of the validation split, for greedy pass@1; 0 leaves it out
    config.evaluation.max_new_tokens = 96
    config.evaluation.timeout_s = 5.0
    config.evaluation.sandbox = "bwrap"  # bwrap, none

    config.export = ConfigDict()
    config.export.layout = "meta"  # meta, hf (keeps the next-token head alone)
    config.export.dtype = "float32"  # float32, float16, bfloat16

    config.mlflow = True  # mirror the run to MLflow where it is installed
    return config
