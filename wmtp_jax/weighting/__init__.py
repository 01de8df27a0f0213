"""Which tokens count how much: advantages, token weights, Rho-1, controls, and what they are worth (pure)."""

from wmtp_jax.weighting.advantages import (
    before_last_token,
    length_adaptive_lambda,
    td_errors,
    token_advantages,
    value_positions,
    value_targets,
)
from wmtp_jax.weighting.controls import random_weights, shuffled_weights, solution_mean_weights, uniform_weights
from wmtp_jax.weighting.diagnostics import (
    area_under_curve,
    collapse_warnings,
    explained_variance,
    td_error_metrics,
    weight_metrics,
)
from wmtp_jax.weighting.masked import WeightingError
from wmtp_jax.weighting.rho1 import kl_divergence, reference_loss_diff, rho1_weights
from wmtp_jax.weighting.surprise import (
    SURPRISE_FEATURES,
    next_token_surprise,
    running_surprise,
    token_surprise,
    untrained_score,
)
from wmtp_jax.weighting.token_weights import (
    Statistics,
    init_statistics,
    read_statistics,
    token_weights,
    update_statistics,
)

__all__ = [
    "SURPRISE_FEATURES",
    "Statistics",
    "WeightingError",
    "area_under_curve",
    "before_last_token",
    "collapse_warnings",
    "explained_variance",
    "init_statistics",
    "kl_divergence",
    "length_adaptive_lambda",
    "next_token_surprise",
    "random_weights",
    "read_statistics",
    "reference_loss_diff",
    "rho1_weights",
    "running_surprise",
    "shuffled_weights",
    "solution_mean_weights",
    "td_error_metrics",
    "td_errors",
    "token_advantages",
    "token_surprise",
    "token_weights",
    "uniform_weights",
    "untrained_score",
    "update_statistics",
    "value_positions",
    "value_targets",
    "weight_metrics",
]
