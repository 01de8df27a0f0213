"""What a step is trained on: scores of the global batch become weights, coefficients and value targets (DESIGN 4-6)."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from wmtp_jax.losses import coefficients, target_weights, valid_targets
from wmtp_jax.losses.value import clipped_value_loss, pairwise_ranking_loss, value_cross_entropy
from wmtp_jax.training.critic import Critic
from wmtp_jax.weighting import (
    Statistics,
    before_last_token,
    explained_variance,
    length_adaptive_lambda,
    random_weights,
    reference_loss_diff,
    rho1_weights,
    shuffled_weights,
    solution_mean_weights,
    td_error_metrics,
    td_errors,
    token_advantages,
    token_weights,
    uniform_weights,
    update_statistics,
    value_targets,
    weight_metrics,
)

OBJECTIVES = ("baseline", "verifiable", "rho1")
CONTROLS = ("none", "uniform", "shuffled", "random", "solution_mean")


def outcomes(batch: dict) -> jax.Array:
    """R of each row's solution, fp32 [B]: the label, or the probability that a reward model gives in its place."""
    if "reward" in batch:
        return batch["reward"]
    return (batch["is_correct"] > 0).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The rules of one run; every function takes the whole global batch.

    Attributes:
        config: of the run; read are `objective`, `data.policy_samples`, `weighting`, `critic`, `rho1`.
        head_weights: a_k of each head.
        critic: of the verifiable objective, else None.
    """

    config: ml_collections.FrozenConfigDict
    head_weights: tuple[float, ...]
    critic: Critic | None = None

    @property
    def needs_surprise(self) -> bool:
        """Whether scores include the policy's surprise at each token."""
        return self.config.objective == "rho1" or (self.critic is not None and self.critic.surprise)

    def imitated(self, batch: dict) -> jax.Array:
        """Target tokens that the policy learns to write: bool [B, S]; solutions labelled incorrect may be left out."""
        if self.config.data.policy_samples == "all":
            return batch["target_mask"]
        return batch["target_mask"] & (batch["is_correct"] != 0)[:, None]

    def lambda_(self, batch: dict) -> jax.Array | float:
        """Mixing parameter of the advantages, one number or one per row."""
        alpha = self.config.critic.lambda_alpha
        if alpha == 0:
            return self.config.critic.lambda_
        return length_adaptive_lambda(batch["target_mask"].sum(1), alpha)

    def policy_plan(
        self, batch: dict, scores: dict, statistics: Statistics, key: jax.Array
    ) -> tuple[dict, Statistics, dict]:
        """Weights of the global batch, as coefficients of each head's nll.

        Args:
            batch: `tokens`, `segment_ids`, `target_mask` [B, S], `is_correct` [B], for Rho-1 `reference_nll` [B, S],
                with a reward model `reward` [B].
            scores: `value_logits` [B, S] and `features` [B, S, 3], where the objective needs them.
            statistics: running moments of the advantages, read before they are updated.
            key: for the controls that draw.

        Returns:
            {"coefficients": [B, N, S], "valid": [B, N, S]}, the new statistics, metrics.
        """
        mask_BxS = self.imitated(batch)
        weights_BxS, statistics, metrics = self._weights(batch, scores, mask_BxS, statistics)
        weights_BxS = self._controlled(weights_BxS, mask_BxS, key)
        if self.config.objective != "baseline":
            metrics |= weight_metrics(weights_BxS, mask_BxS, clip=tuple(self.config.weighting.clip))
        valid_NxBxS = valid_targets(mask_BxS, batch["segment_ids"], len(self.head_weights))
        weights_NxBxS = target_weights(weights_BxS, valid_NxBxS)
        coefficients_NxBxS = coefficients(weights_NxBxS, jnp.array(self.head_weights), weights_NxBxS.sum((1, 2)))
        plan = {"coefficients": coefficients_NxBxS, "valid": valid_NxBxS}
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), plan), statistics, metrics

    def value_plan(self, batch: dict, scores: dict, *, loss: str, ranking_coef: float) -> tuple[dict, jax.Array, dict]:
        """Targets of the value, and how much each state and pair counts.

        The ranking loss enters by its derivative at the present values, so that a pair may fall into two
        micro-batches: d/dx_correct = -sigmoid(x_incorrect - x_correct), and the opposite for x_incorrect.

        Args:
            batch: as of `policy_plan`; with pairs, rows 2i and 2i + 1 are a correct and an incorrect solution.
            scores: `value_logits` [B, S], `anchor_logits` [B, S] for the clipped loss.
            loss: "bce" or "clipped".
            ranking_coef: weight of the ranking loss; 0 leaves it out.

        Returns:
            {"targets", "states", "anchors": [B, S], "pairs": [B]}, the number of states (fp32), metrics.
        """
        settings, logits_BxS = self.config.critic, scores["value_logits"]
        values_BxS = jax.nn.sigmoid(logits_BxS)
        correct_B = batch["is_correct"] > 0
        targets_BxS, states_BxS = value_targets(
            values_BxS,
            outcomes(batch),
            batch["target_mask"],
            returns=settings.returns,
            gamma=settings.gamma,
            lambda_=self.lambda_(batch),
        )
        deltas_BxS = td_errors(values_BxS, outcomes(batch), batch["target_mask"], gamma=settings.gamma)
        metrics = td_error_metrics(deltas_BxS, batch["target_mask"])
        metrics["value_explained_variance"] = explained_variance(values_BxS, targets_BxS, states_BxS)
        plan = {
            "targets": targets_BxS,
            "states": states_BxS,
            "anchors": jax.nn.sigmoid(scores["anchor_logits"] if loss == "clipped" else logits_BxS),
            "pairs": jnp.zeros(correct_B.shape),
        }
        if ranking_coef:
            last_B = before_last_token(logits_BxS, batch["target_mask"])
            pair_P = correct_B[0::2] & ~correct_B[1::2] & jnp.any(states_BxS, axis=1)[1::2]
            ranking_sum, count = pairwise_ranking_loss(last_B[0::2], last_B[1::2], pair_P)
            metrics["ranking_loss"] = ranking_sum / jnp.maximum(count, 1)
            slope_P = pair_P * jax.nn.sigmoid(last_B[1::2] - last_B[0::2]) * ranking_coef / jnp.maximum(count, 1)
            plan["pairs"] = jnp.stack([-slope_P, slope_P], axis=1).reshape(-1)
        return plan, jnp.maximum(states_BxS.sum(), 1).astype(jnp.float32), metrics

    def value_loss(self, value_logits_BxS: jax.Array, batch: dict, plan: dict, n_states: jax.Array, loss: str):
        """This part of the batch's share of the value loss, and of the ranking loss up to a constant."""
        if loss == "clipped":
            values_BxS = jax.nn.sigmoid(value_logits_BxS)
            total, _ = clipped_value_loss(
                values_BxS, plan["anchors"], plan["targets"], plan["states"], clip=self.config.critic.value_clip
            )
        else:
            total, _ = value_cross_entropy(value_logits_BxS, plan["targets"], plan["states"])
        ranking = jnp.sum(plan["pairs"] * before_last_token(value_logits_BxS, batch["target_mask"]))
        return total / n_states, ranking

    def _weights(self, batch, scores, mask_BxS, statistics):
        settings = self.config.weighting
        if self.config.objective == "baseline":
            return uniform_weights(mask_BxS), statistics, {}
        if self.config.objective == "rho1":
            nll_BxS = -scores["features"][..., 0]
            weights_BxS = rho1_weights(
                nll_BxS,
                batch["reference_nll"],
                mask_BxS,
                mode=self.config.rho1.mode,
                temperature=settings.temperature,
                keep_fraction=self.config.rho1.keep_fraction,
                clip=tuple(settings.clip),
            )
            return (
                weights_BxS,
                statistics,
                {"reference_loss_diff": reference_loss_diff(nll_BxS, batch["reference_nll"], mask_BxS)},
            )
        advantages_BxS = token_advantages(
            jax.nn.sigmoid(scores["value_logits"]),
            outcomes(batch),
            batch["target_mask"],
            gamma=self.config.critic.gamma,
            lambda_=self.lambda_(batch),
        )
        running = settings.statistics == "ema"
        weights_BxS = token_weights(
            advantages_BxS,
            mask_BxS,
            normalization=settings.normalization,
            temperature=settings.temperature,
            entropy_floor=settings.entropy_floor,
            clip=tuple(settings.clip),
            statistics=statistics if running else None,
        )
        if running:
            statistics = update_statistics(statistics, advantages_BxS, mask_BxS, decay=settings.ema_decay)
        return weights_BxS, statistics, {}

    def _controlled(self, weights_BxS, mask_BxS, key):
        control = self.config.weighting.control
        if control == "uniform":
            return uniform_weights(mask_BxS)
        if control == "shuffled":
            return shuffled_weights(key, weights_BxS, mask_BxS)
        if control == "random":
            count = jnp.maximum(mask_BxS.sum(), 1)
            mean = jnp.sum(weights_BxS) / count
            variance = jnp.sum(jnp.where(mask_BxS, (weights_BxS - mean) ** 2, 0.0)) / count
            return random_weights(key, mask_BxS, mean=mean, variance=variance, clip=tuple(self.config.weighting.clip))
        if control == "solution_mean":
            return solution_mean_weights(weights_BxS, mask_BxS)
        return weights_BxS
