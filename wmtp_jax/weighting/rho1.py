"""Rho-1: weights from what a reference model finds easier than the policy does, and how far the two are apart."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.weighting.masked import as_tokens, masked_mean, require
from wmtp_jax.weighting.token_weights import token_weights


def rho1_weights(
    policy_nll: jax.Array,
    reference_nll: jax.Array,
    mask: jax.Array,
    *,
    mode: str,
    temperature: float,
    keep_fraction: float,
    clip: tuple[float, float] | None,
) -> jax.Array:
    """Weights from the excess loss of every target token.

        excess_j = nll_policy(x_j | x_<j) - nll_reference(x_j | x_<j)        signed; the policy's next-token head
        "weighted":  w = clip(c * T * softmax(excess / temperature)) with mean 1
        "top_k":     w = 1 for the round-half-even(keep_fraction * T) tokens of largest excess, else 0

    Args:
        policy_nll: [B, S] float, nats, indexed by the target token, of the whole global batch.
        reference_nll: the same of the reference, given the same left context.
        mask: [B, S], the target tokens; T of them.
        mode: "weighted" or "top_k".
        temperature: > 0; "weighted" alone uses it.
        keep_fraction: in (0, 1]; "top_k" alone uses it.
        clip: (min, max) with 0 <= min < 1 < max, None for no clip; "weighted" alone uses it.

    Returns:
        [B, S] fp32, 0 outside the mask, without gradient; a NaN loss gives NaN for every token of the mask.

    Raises:
        WeightingError: a setting out of its range.

    Source: Lin et al. 2024, Rho-1 (arXiv 2404.07965), section 2.2.
    """
    require("mode", mode, lambda m: m in ("weighted", "top_k"), "'weighted' or 'top_k'")
    excess_BxS, mask_BxS = _excess(policy_nll, reference_nll, mask)
    if mode == "weighted":
        return token_weights(
            excess_BxS, mask_BxS, normalization="none", temperature=temperature, entropy_floor=None, clip=clip
        )
    require("keep_fraction", keep_fraction, lambda f: 0 < f <= 1, "a share above 0 and up to 1 (0.6 is usual)")
    kept_BxS = _keep_largest(excess_BxS, mask_BxS, keep_fraction)
    # Sorting would put NaN last and drop it unseen.
    return jnp.where(mask_BxS & jnp.any(mask_BxS & jnp.isnan(excess_BxS)), jnp.nan, kept_BxS)


def reference_loss_diff(policy_nll: jax.Array, reference_nll: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean excess loss over the mask, in nats: how far the policy is behind the reference (0 for an empty mask)."""
    return masked_mean(*_excess(policy_nll, reference_nll, mask))


def kl_divergence(policy_logits: jax.Array, reference_logits: jax.Array) -> jax.Array:
    """KL(policy || reference) = sum_v p(v) (ln p(v) - ln q(v)): float [..., V], [..., V] -> fp32 [...] in nats."""
    chex.assert_type([policy_logits, reference_logits], float)
    chex.assert_equal_shape([policy_logits, reference_logits])
    log_p = jax.nn.log_softmax(policy_logits.astype(jnp.float32))
    log_q = jax.nn.log_softmax(reference_logits.astype(jnp.float32))
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * (log_p - log_q), 0.0), axis=-1)


def _excess(policy_nll, reference_nll, mask) -> tuple[jax.Array, jax.Array]:
    policy_BxS, mask_BxS = as_tokens(policy_nll, mask)
    reference_BxS, _ = as_tokens(reference_nll, mask)
    return jax.lax.stop_gradient(policy_BxS - reference_BxS), mask_BxS


def _keep_largest(scores_BxS: jax.Array, mask_BxS: jax.Array, keep_fraction: float) -> jax.Array:
    """1 for the mask tokens that "top_k" keeps, 0 for the others; of equal scores the first in flat order is kept."""
    B, S = mask_BxS.shape
    # Python's own round(keep_fraction * T), from a table: the product in fp32 can fall on the other side of a half.
    n_kept_of = np.rint(keep_fraction * np.arange(B * S + 1, dtype=np.float64)).astype(np.int32)
    n_kept = jnp.asarray(n_kept_of)[jnp.sum(mask_BxS, dtype=jnp.int32)]
    order_T = jnp.lexsort((-scores_BxS.ravel(), ~mask_BxS.ravel()))
    kept_T = (jnp.arange(B * S) < n_kept).astype(jnp.float32)
    return jnp.zeros(B * S, jnp.float32).at[order_T].set(kept_T, unique_indices=True).reshape(B, S)
