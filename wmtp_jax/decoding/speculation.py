"""Which drafts are accepted: lossless verification of drafted tokens against the distribution of head 1."""

import jax
import jax.numpy as jnp

# Purposes of the random numbers that belong to one position. A position is decided exactly once and an undecided draft
# influences nothing that is kept, so drawing a draft again from the same key leaves the distribution as it is.
_DRAFT, _ACCEPT, _FINAL = range(3)


def accept_greedy(drafts_BxM: jax.Array, logits_BxSxV: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keeps drafts while each is head 1's argmax, then takes that argmax (Stern et al. 2018, arXiv 1811.03115).

    The logits are head 1's for the S = M + 1 positions that start with the first draft's. Returns tokens [B, S], of
    which the first n_accepted + 1 count, and n_accepted [B].
    """
    best_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(drafts_BxM.dtype)
    return best_BxS, _n_leading(drafts_BxM == best_BxS[:, :-1])


def accept_sampled(drafts_BxM, draft_probs_BxMxV, probs_BxSxV, keys_BxS) -> tuple[jax.Array, jax.Array]:
    """Speculative sampling: tokens are distributed exactly as those of head 1 (result as of `accept_greedy`).

    A draft x drawn from q is accepted with probability min(1, p(x) / q(x)), p being head 1's. In place of the first
    that is rejected, a token is drawn from (p - q)+ renormalised; when all are accepted, one more is drawn from p.

    Source: Leviathan et al. 2023 (arXiv 2211.17192), section 2.3.
    """
    prob_of_draft = lambda probs: jnp.take_along_axis(probs, drafts_BxM[..., None], axis=-1)[..., 0]
    p_BxM, q_BxM = prob_of_draft(probs_BxSxV[:, :-1]), prob_of_draft(draft_probs_BxMxV)
    uniform = lambda key: jax.random.uniform(jax.random.fold_in(key, _ACCEPT))
    uniform_BxM = jax.vmap(jax.vmap(uniform))(keys_BxS[:, :-1])
    n_accepted_B = _n_leading(uniform_BxM * q_BxM < p_BxM)

    at_end = lambda x: jnp.take_along_axis(x, n_accepted_B[:, None, None], axis=1)[:, 0]
    p_BxV = at_end(probs_BxSxV)
    # No draft, hence q = 0, after the last one: there the residual is p itself.
    q_BxV = at_end(jnp.pad(draft_probs_BxMxV, [(0, 0), (0, 1), (0, 0)]))
    residual_BxV = jnp.maximum(p_BxV - q_BxV, 0.0)
    # A draft can be rejected although p = q to rounding; then the residual is empty and the token is drawn from p.
    residual_BxV = jnp.where(residual_BxV.sum(axis=-1, keepdims=True) > 0, residual_BxV, p_BxV)
    end_key_B = jnp.take_along_axis(keys_BxS, n_accepted_B[:, None], axis=1)[:, 0]
    final_B = _draw(residual_BxV, end_key_B, _FINAL)
    tokens_BxS = jnp.pad(drafts_BxM, [(0, 0), (0, 1)])
    return tokens_BxS.at[jnp.arange(final_B.size), n_accepted_B].set(final_B), n_accepted_B


def draw_drafts(probs_BxMxV: jax.Array, keys_BxM: jax.Array) -> jax.Array:
    """One draft per row and position, int32 [B, M]."""
    return jax.vmap(lambda probs, keys: _draw(probs, keys, _DRAFT), in_axes=1, out_axes=1)(probs_BxMxV, keys_BxM)


def _draw(probabilities_BxV, keys_B, purpose: int) -> jax.Array:
    """One token per row from (unnormalised) probabilities."""
    one = lambda p_V, key: jax.random.categorical(jax.random.fold_in(key, purpose), jnp.log(p_V))
    return jax.vmap(one)(probabilities_BxV, keys_B).astype(jnp.int32)


def _n_leading(accepted_BxM: jax.Array) -> jax.Array:
    """Number of leading True per row."""
    return jnp.cumprod(accepted_BxM.astype(jnp.int32), axis=1).sum(axis=1)
