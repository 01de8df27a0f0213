"""Which tokens count how much: advantages, token weights, Rho-1, controls, statistics and their metrics (pure)."""

from wmtp_jax.weighting.advantages import length_adaptive_lambda, td_errors, token_advantages, value_targets
from wmtp_jax.weighting.auc import AreaUnderCurve, area_under_curve
from wmtp_jax.weighting.collapse import collapse_warnings
from wmtp_jax.weighting.controls import random_weights, shuffled_weights, solution_mean_weights, uniform_weights
from wmtp_jax.weighting.divergence import kl_divergence
from wmtp_jax.weighting.metrics import explained_variance, td_error_metrics, weight_metrics
from wmtp_jax.weighting.normalization import NORMALIZATIONS
from wmtp_jax.weighting.ranges import WeightingError, require_clip, require_discounts
from wmtp_jax.weighting.rho1 import reference_loss_diff, rho1_weights
from wmtp_jax.weighting.states import before_last_token, state_mask
from wmtp_jax.weighting.statistics import Statistics, init_statistics, read_statistics, update_statistics
from wmtp_jax.weighting.surprise import (
    SURPRISE_FEATURES,
    next_token_surprise,
    running_surprise,
    surprise_features,
    token_surprise,
    untrained_score,
)
from wmtp_jax.weighting.weights import token_weights

__all__ = [
    "NORMALIZATIONS",
    "SURPRISE_FEATURES",
    "AreaUnderCurve",
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
    "require_clip",
    "require_discounts",
    "rho1_weights",
    "running_surprise",
    "shuffled_weights",
    "solution_mean_weights",
    "state_mask",
    "surprise_features",
    "td_error_metrics",
    "td_errors",
    "token_advantages",
    "token_surprise",
    "token_weights",
    "uniform_weights",
    "untrained_score",
    "update_statistics",
    "value_targets",
    "weight_metrics",
]
