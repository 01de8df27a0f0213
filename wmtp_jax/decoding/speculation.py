"""Which drafts stand: lossless verification of drafted tokens against the law of head 1."""

import jax
import jax.numpy as jnp

# Purposes of the random numbers that belong to one position. A position is decided exactly once and an undecided draft
# influences nothing that is kept, so drawing a draft again from the same key leaves the law untouched.
_DRAFT, _ACCEPT, _FINAL = range(3)


def accept_greedy(drafts_BxM: jax.Array, logits_BxSxV: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keeps drafts while each is head 1's argmax, then takes that argmax (Stern et al. 2018, arXiv 1811.03115).

    Args:
        drafts_BxM: drafted tokens.
        logits_BxSxV: head 1's logits for the S = M + 1 positions that start with the first draft's.

    Returns:
        tokens [B, S], of which the first n_accepted + 1 count, and n_accepted [B].
    """
    best_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(drafts_BxM.dtype)
    return best_BxS, _leading(drafts_BxM == best_BxS[:, :-1])


def accept_sampled(drafts_BxM, draft_laws_BxMxV, laws_BxSxV, keys_BxS) -> tuple[jax.Array, jax.Array]:
    """Speculative sampling: the kept tokens follow head 1's law exactly (Leviathan et al. 2023, arXiv 2211.17192, 2.3).

    A draft x drawn from q stands with probability min(1, p(x) / q(x)). At the first that falls, the token is drawn from
    (p - q)+ renormalised; when all stand, one more is drawn from p.

    Args:
        drafts_BxM: drafted tokens, drawn from draft_laws_BxMxV.
        draft_laws_BxMxV: probabilities q.
        laws_BxSxV: head 1's probabilities p for the S = M + 1 positions that start with the first draft's.
        keys_BxS: one random key per position.

    Returns:
        tokens [B, S], of which the first n_accepted + 1 count, and n_accepted [B].
    """
    of_draft = lambda laws: jnp.take_along_axis(laws, drafts_BxM[..., None], axis=-1)[..., 0]
    p_BxM, q_BxM = of_draft(laws_BxSxV[:, :-1]), of_draft(draft_laws_BxMxV)
    uniform_BxM = _each(lambda key: jax.random.uniform(_for(key, _ACCEPT)), keys_BxS[:, :-1])
    n_accepted_B = _leading(uniform_BxM * q_BxM < p_BxM)

    at_end = lambda x: jnp.take_along_axis(x, n_accepted_B[:, None, None], axis=1)[:, 0]
    p_BxV = at_end(laws_BxSxV)
    # No draft, hence q = 0, after the last one: there the residual is p itself.
    q_BxV = at_end(jnp.pad(draft_laws_BxMxV, [(0, 0), (0, 1), (0, 0)]))
    residual_BxV = jnp.maximum(p_BxV - q_BxV, 0.0)
    # A draft can fall although p = q to rounding; then nothing is left over and p is the answer.
    residual_BxV = jnp.where(residual_BxV.sum(axis=-1, keepdims=True) > 0, residual_BxV, p_BxV)
    end_key_B = jnp.take_along_axis(keys_BxS, n_accepted_B[:, None], axis=1)[:, 0]
    final_B = draw(residual_BxV, end_key_B)
    tokens_BxS = jnp.pad(drafts_BxM, [(0, 0), (0, 1)])
    return tokens_BxS.at[jnp.arange(final_B.size), n_accepted_B].set(final_B), n_accepted_B


def draw(probabilities_BxV: jax.Array, keys_B: jax.Array) -> jax.Array:
    """One token per row from (unnormalised) probabilities."""
    return _draw(probabilities_BxV, keys_B, _FINAL)


def draw_drafts(laws_BxMxV: jax.Array, keys_BxM: jax.Array) -> jax.Array:
    """One draft [B, M] per law and position."""
    return jax.vmap(lambda laws, keys: _draw(laws, keys, _DRAFT), in_axes=1, out_axes=1)(laws_BxMxV, keys_BxM)


def _draw(probabilities_BxV, keys_B, purpose: int) -> jax.Array:
    one = lambda p_V, key: jax.random.categorical(_for(key, purpose), jnp.log(p_V))
    return jax.vmap(one)(probabilities_BxV, keys_B).astype(jnp.int32)


def _for(key, purpose: int):
    return jax.random.fold_in(key, purpose)


def _each(function, keys_BxM):
    return jax.vmap(jax.vmap(function))(keys_BxM)


def _leading(stands_BxM: jax.Array) -> jax.Array:
    """Number of leading True per row."""
    return jnp.cumprod(stands_BxM.astype(jnp.int32), axis=1).sum(axis=1)
