"""What a critic is worth on unseen problems: AUC, explained variance, and the score that nobody had to train."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.model import MTPTransformer
from wmtp_jax.training.loop import device_batch
from wmtp_jax.training.objective import Objective, outcomes
from wmtp_jax.training.step import Batch, forward
from wmtp_jax.weighting import area_under_curve, before_last_token, untrained_score, value_targets


def measure_critic(
    model: MTPTransformer,
    objective: Objective,
    params: dict,
    value_params: dict,
    batches: Iterable[Batch],
    pairs_Px2: np.ndarray,
    chunk_length: int,
) -> dict[str, float]:
    """Measures over labelled examples that the critic was not trained on.

    Args:
        model: the policy; its next-token head is enough.
        objective: with a critic.
        params: of the policy.
        value_params: of the critic.
        batches: evaluation batches of the labelled examples, in order; empty rows have no targets.
        pairs_Px2: numbers of a correct and an incorrect example of like length, of one problem each.
        chunk_length: positions per chunk of logits.

    Returns:
        value_auc of the value before the last token, with value_auc_low and value_auc_high (95 %); the same on the
        length-balanced pairs (value_auc_pairs, value_auc_pairs_low); value_explained_variance of the Monte Carlo
        returns; untrained_auc of the largest surprise, where the objective looks at surprise.
    """

    @jax.jit
    def score(params, value_params, batch):
        _, _, scores = forward(model, objective, params, value_params, None, batch, chunk_length)
        logits_BxS, mask_BxS = scores["value_logits"], batch["target_mask"]
        values_BxS, outcomes_B = jax.nn.sigmoid(logits_BxS), outcomes(batch)
        targets_BxS, states_BxS = value_targets(
            values_BxS, outcomes_B, mask_BxS, returns="monte_carlo", gamma=objective.config.critic.gamma
        )
        over_states = lambda x: jnp.sum(jnp.where(states_BxS, x, 0.0))
        residuals_BxS = targets_BxS - values_BxS
        moments = [over_states(x) for x in (1.0, targets_BxS, targets_BxS**2, residuals_BxS, residuals_BxS**2)]
        untrained_B = (
            untrained_score(scores["features"], mask_BxS) if "features" in scores else jnp.zeros(len(outcomes_B))
        )
        return before_last_token(logits_BxS, mask_BxS), untrained_B, jnp.stack(moments)

    values, untrained, correct, moments = [], [], [], np.zeros(5)
    for batch in batches:
        of_batch = device_batch(batch)
        value_B, untrained_B, moments_5 = score(params, value_params, of_batch)
        real = batch["target_mask"].any(1)
        values.append(np.asarray(value_B)[real])
        untrained.append(np.asarray(untrained_B)[real])
        correct.append(batch["is_correct"][real] > 0)
        moments += np.asarray(moments_5, np.float64)
    values, untrained, correct = (np.concatenate(parts) for parts in (values, untrained, correct))
    whole = area_under_curve(values, correct)
    paired = pairs_Px2.reshape(-1)
    pairs = area_under_curve(values[paired], correct[paired])
    count, target, target_square, residual, residual_square = moments
    of_targets = target_square / count - (target / count) ** 2
    of_residuals = residual_square / count - (residual / count) ** 2
    measures = {
        "value_auc": whole.value,
        "value_auc_low": whole.low,
        "value_auc_high": whole.high,
        "value_auc_pairs": pairs.value,
        "value_auc_pairs_low": pairs.low,
        "value_auc_pairs_high": pairs.high,
        "value_explained_variance": 1 - of_residuals / of_targets,
    }
    if objective.needs_surprise:
        measures["untrained_auc"] = area_under_curve(untrained, correct).value
    return measures
