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
    config.objective = "baseline"  # baseline, verifiable, rho1

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
    config.data.reward = "outcome"  # of a solution: outcome (is_correct), reward_model (see training/reward_model.py)
    config.data.reward_model = "storage/models_v2/starling-rm-7b"
    config.data.clean_only = False  # keep only records marked clean, where there are no labels
    config.data.buckets = (64, 96, 128)  # padded lengths; a record longer than the last is over-long
    config.data.over_length = "drop"  # drop, error
    config.data.pack = False  # several documents per row of the longest bucket
    config.data.correct_ratio = 0.0  # share of correct solutions in every batch; 0 takes the data as they are
    config.data.pairs = False  # rows come as a correct and an incorrect solution of one problem
    config.data.length_balanced = False  # pairs in which length says nothing about the label
    config.data.difficulty_weights = ()  # (("easy", 1.0), ("hard", 2.0)): how often problems are drawn
    config.data.max_per_problem = 0  # solutions of each label per problem; 0 for all

    config.loss = ConfigDict()
    config.loss.heads = "all"  # all, next_token (heads 2..N stay untouched)
    config.loss.head_weights = ()  # a_k, one per head; () is 1/N each
    config.loss.chunk_length = 128  # positions per chunk of logits

    config.weighting = ConfigDict()  # of the target tokens, by advantages (verifiable) or excess loss (rho1)
    config.weighting.normalization = "zscore"  # of advantages: zscore, minmax, none
    config.weighting.statistics = "batch"  # of the z-score: batch, ema
    config.weighting.ema_decay = 0.99
    config.weighting.temperature = 1.0
    config.weighting.entropy_floor = 0.01
    config.weighting.clip = (0.1, 5.0)
    config.weighting.control = "none"  # none, uniform, shuffled, random, solution_mean

    config.critic = ConfigDict()  # of the verifiable objective
    config.critic.path = ""  # a critic saved by an earlier run (RUN/critic); skips stage 1
    config.critic.model = ""  # directory of a model of the critic's own; "" is a head on the policy's trunk
    config.critic.width = 64  # of the head's hidden layer; 0 is a linear head
    config.critic.surprise = True  # the head also sees the policy's own surprise
    config.critic.trunk_gradient = 0.0  # factor on the value loss's gradient into the policy's trunk, in stage 2
    config.critic.gamma = 1.0
    config.critic.lambda_ = 0.95
    config.critic.lambda_alpha = 0.0  # above 0: lambda = 1 - 1 / (alpha * length) instead
    config.critic.returns = "monte_carlo"  # monte_carlo, lambda
    config.critic.steps = 150  # of stage 1, at the most
    config.critic.batch_size = 32
    config.critic.pairs = True  # stage 1 draws pairs of one problem ...
    config.critic.length_balanced = True  # ... in which length says nothing about the label
    config.critic.ranking_coef = 0.5  # of the pairwise ranking loss, where there are pairs
    config.critic.evaluate_every = 50  # steps of stage 1
    config.critic.patience = 2  # evaluations without a better AUC before stage 1 ends
    config.critic.optimizer = optimizer(learning_rate=1e-2)  # of stage 1
    config.critic.loss = "clipped"  # of stage 2: bce, or squared error clipped around a slow copy of the critic
    config.critic.value_clip = 0.2
    config.critic.target_decay = 0.99  # of the slow copy, per step
    config.critic.value_coef = 0.5
    config.critic.stage2_optimizer = optimizer(learning_rate=1e-3)

    config.rho1 = ConfigDict()
    config.rho1.reference = "storage/models_v2/micro-ref"
    config.rho1.mode = "weighted"  # weighted, top_k
    config.rho1.keep_fraction = 0.6  # of top_k

    config.optimizer = optimizer(learning_rate=1e-3)  # of the policy
    config.freeze = ()  # regular expressions of parameter paths that stay as they are, such as "trunk"

    config.train = ConfigDict()
    config.train.steps = 200
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


def optimizer(learning_rate: float) -> ConfigDict:
    """AdamW with warm-up and cosine decay."""
    config = ConfigDict()
    config.learning_rate = learning_rate
    config.warmup_steps = 20
    config.final_fraction = 0.1
    config.b1 = 0.9
    config.b2 = 0.95
    config.eps = 1e-8
    config.weight_decay = 0.1
    config.clip_norm = 1.0
    return config
