"""What the weights and the critic look like, in numbers that are logged every step."""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.entropy import normalized_entropy
from wmtp_jax.weighting.masked import masked_max, masked_mean, masked_min, token_count


def _mean_and_variance(x_BxS, mask_BxS):
    mean = masked_mean(x_BxS, mask_BxS)
    return mean, masked_mean((x_BxS - mean) ** 2, mask_BxS)


def _ratio(numerator, denominator):
    """0 where there is nothing to divide by: a log of numbers must not hold NaN for a batch without spread."""
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), 0.0)


def relative_position(mask: jax.Array) -> jax.Array:
    """Place of every mask token within its row's mask: 0 for the first, 1 for the last. [B, S] -> [B, S] fp32."""
    chex.assert_rank(mask, 2)
    count_BxS = jnp.cumsum(mask != 0, axis=1)
    length_Bx1 = count_BxS[:, -1:]
    return (count_BxS - 1) / jnp.maximum(length_Bx1 - 1, 1).astype(jnp.float32)


def weight_metrics(weights: jax.Array, mask: jax.Array, *, clip: tuple[float, float] | None) -> dict[str, jax.Array]:
    """Describes the token weights of a global batch.

        effective_sample_size = (sum w)^2 / sum w^2       effective_sample_share = effective_sample_size / T

    Args:
        weights: [B, S] float.
        mask: [B, S], the weighted tokens; T of them.
        clip: the bounds the weights were clipped to, or None.

    Returns:
        fp32 scalars: weight_mean, weight_std, weight_min, weight_max, weight_clip_share (tokens at a bound),
        weight_entropy (normalised: 1 when all are equal), effective_sample_size (tokens), effective_sample_share,
        weight_position_correlation (Pearson, with the place in the response from 0 to 1; 0 without spread).

    Source: effective sample size of Kish 1965.
    """
    weights, mask_BxS = jnp.asarray(weights), jnp.asarray(mask) != 0
    chex.assert_rank([weights, mask_BxS], 2)
    chex.assert_type(weights, float)
    chex.assert_equal_shape([weights, mask_BxS])
    weights_BxS = weights.astype(jnp.float32)
    T = token_count(mask_BxS)
    mean, variance = _mean_and_variance(weights_BxS, mask_BxS)
    relative_BxS = jnp.where(mask_BxS, _ratio(weights_BxS, mean), 0.0)
    share = _ratio(1.0, masked_mean(relative_BxS**2, mask_BxS))
    position_BxS = relative_position(mask_BxS)
    mean_position, position_variance = _mean_and_variance(position_BxS, mask_BxS)
    covariance = masked_mean((weights_BxS - mean) * (position_BxS - mean_position), mask_BxS)
    at_bound_BxS = jnp.zeros_like(mask_BxS) if clip is None else (weights_BxS <= clip[0]) | (weights_BxS >= clip[1])
    return {
        "weight_mean": mean,
        "weight_std": jnp.sqrt(variance),
        "weight_min": masked_min(weights_BxS, mask_BxS),
        "weight_max": masked_max(weights_BxS, mask_BxS),
        "weight_clip_share": masked_mean(at_bound_BxS.astype(jnp.float32), mask_BxS),
        "weight_entropy": normalized_entropy(relative_BxS, mask_BxS),
        "effective_sample_size": share * T,
        "effective_sample_share": share,
        "weight_position_correlation": _ratio(covariance, jnp.sqrt(variance * position_variance)),
    }


def td_error_metrics(td_errors: jax.Array, target_mask: jax.Array) -> dict[str, jax.Array]:
    """Mean and spread of the temporal-difference errors over the response tokens.

    Args:
        td_errors: [B, S] float, from `td_errors`.
        target_mask: [B, S], response tokens and EOS.

    Returns:
        fp32 scalars td_error_mean and td_error_std.
    """
    chex.assert_rank([td_errors, target_mask], 2)
    chex.assert_equal_shape([td_errors, target_mask])
    mean, variance = _mean_and_variance(td_errors.astype(jnp.float32), target_mask != 0)
    return {"td_error_mean": mean, "td_error_std": jnp.sqrt(variance)}


def explained_variance(values: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Share of the targets' variance that the values explain: 1 - Var(targets - values) / Var(targets).

    Args:
        values: [B, S] float.
        targets: [B, S] float, for instance Monte Carlo returns.
        mask: [B, S], the states (see `state_mask`).

    Returns:
        fp32 scalar: 1 for perfect values, 0 for a constant (and for targets without variance), negative for worse.
    """
    chex.assert_rank([values, targets, mask], 2)
    chex.assert_equal_shape([values, targets, mask])
    mask_BxS = mask != 0
    targets_BxS = targets.astype(jnp.float32)
    _, of_targets = _mean_and_variance(targets_BxS, mask_BxS)
    _, of_residuals = _mean_and_variance(targets_BxS - values.astype(jnp.float32), mask_BxS)
    return _ratio(of_targets - of_residuals, of_targets)
