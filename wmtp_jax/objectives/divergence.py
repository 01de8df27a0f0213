"""How far a policy stands from its reference on held-out tokens."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wmtp_jax.decoding import next_token_model
from wmtp_jax.losses import head_targets, scan_chunks, valid_targets
from wmtp_jax.model import MTPTransformer
from wmtp_jax.weighting import kl_divergence


def evaluate_divergence(
    model: MTPTransformer,
    params: dict,
    reference_model: MTPTransformer,
    reference_params: dict,
    batches: Iterable[dict],
    chunk_length: int = 128,
) -> dict[str, float]:
    """Means over all targets: KL(policy || reference) of the next-token distributions, and the difference in loss.

    Args:
        model: the policy; its next-token head is compared.
        params: its parameters.
        reference_model: of the same vocabulary; its next-token head is compared.
        reference_params: its parameters.
        batches: `tokens`, `segment_ids`, `target_mask`, each [B, S].
        chunk_length: positions per chunk; two chunks of logits are held at a time.

    Returns:
        {"kl_divergence": nats per token, "reference_loss_diff": the policy's loss minus the reference's, nats per
        token}; NaN without a single target.
    """
    sums = jax.jit(_batch_sums, static_argnums=(0, 2, 5))
    totals = np.zeros(3, np.float64)
    for batch in batches:
        arrays = {name: batch[name] for name in ("tokens", "segment_ids", "target_mask")}
        totals += np.asarray(sums(model, params, reference_model, reference_params, arrays, chunk_length), np.float64)
    with np.errstate(invalid="ignore"):
        kl, difference = totals[1:] / totals[0]
    return {"kl_divergence": float(kl), "reference_loss_diff": float(difference)}


def _batch_sums(
    model: MTPTransformer,
    params: dict,
    reference_model: MTPTransformer,
    reference_params: dict,
    batch: dict,
    chunk_length: int,
) -> jax.Array:
    """Number of targets, sum of the KL before them, sum of the differences of their losses."""
    policy_logits, policy_states = _next_token_head(model, params, batch)
    reference_logits, reference_states = _next_token_head(reference_model, reference_params, batch)
    valid_1xBxS = valid_targets(batch["target_mask"], batch["segment_ids"], 1)

    def body(sums_3, chunk):
        policy, reference, target_BxC, valid_BxC = chunk
        p_BxCxV, q_BxCxV = policy_logits(policy), reference_logits(reference)
        nll = optax.softmax_cross_entropy_with_integer_labels
        difference_BxC = nll(p_BxCxV, target_BxC) - nll(q_BxCxV, target_BxC)
        total = lambda x: jnp.sum(jnp.where(valid_BxC, x, 0.0))
        return sums_3 + jnp.stack([total(1.0), total(kl_divergence(p_BxCxV, q_BxCxV)), total(difference_BxC)]), None

    columns = (policy_states, reference_states, head_targets(batch["tokens"], 1), valid_1xBxS)
    return scan_chunks(body, jnp.zeros(3), columns, chunk_length)[0]


def _next_token_head(model: MTPTransformer, params: dict, batch: dict):
    """Logits as a function of states, and the states [1, B, S, D] of the next-token head."""
    params, config = next_token_model(params, model.config)
    model = model.clone(config=config)
    variables = {"params": params}
    trunk_BxSxD = model.apply(variables, batch["tokens"], batch["segment_ids"], method="trunk_states")
    states_1xBxSxD = model.apply(variables, trunk_BxSxD, batch["segment_ids"], method="head_states")
    return lambda states: model.apply(variables, states, method="logits"), states_1xBxSxD
