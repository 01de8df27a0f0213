"""Verifiable: a critic learns from correct and incorrect solutions, and its advantages weight the target tokens.

V_t    = sigmoid(value logit) after reading x_0..x_t: the probability that the whole solution is correct
A      = generalised advantage estimates of each target token                    (weighting.token_advantages)
w      = clipped softmax of the normalised advantages over the batch             (weighting.token_weights)
loss  += value_coef * value loss + ranking_coef * pairwise ranking loss          (critic_targets)
"""

import jax
import jax.numpy as jnp
import numpy as np

import converters
from converters.checkpoint import open_checkpoint
from wmtp_jax.data import length_balanced_pairs
from wmtp_jax.decoding import next_token_model
from wmtp_jax.losses.value import clipped_value_loss, pairwise_ranking_loss, value_cross_entropy
from wmtp_jax.model import MTPTransformer, ValueHead
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.objectives.objective import Batch, Metrics, Objective, ObjectiveError
from wmtp_jax.objectives.reward_model import with_rewards
from wmtp_jax.storage import resolve
from wmtp_jax.weighting import (
    area_under_curve,
    before_last_token,
    explained_variance,
    length_adaptive_lambda,
    td_error_metrics,
    td_errors,
    token_advantages,
    token_weights,
    untrained_score,
    update_statistics,
    value_targets,
)


class Verifiable(Objective):
    """Weights from a critic that is trained before the policy (stage 1) and beside it (stage 2)."""

    assets = ("critic.path", "critic.model")
    needs_labels = True
    table_rows = (
        ("critic AUC", "value_auc", "higher"),
        ("critic AUC, lower end of 95 %", "value_auc_low", "higher"),
        ("critic AUC, upper end of 95 %", "value_auc_high", "higher"),
        ("critic AUC, pairs of like length", "value_auc_pairs", "higher"),
        ("critic explained variance", "value_explained_variance", "higher"),
        ("AUC of the untrained score", "untrained_auc", "higher"),
    )

    def __init__(self, config, n_heads, critic: Critic | None = None):
        super().__init__(config, n_heads)
        if critic is None:
            settings, separate = config.critic, None
            if settings.model:
                separate = MTPTransformer(
                    open_checkpoint(resolve(settings.model)).config,
                    dtype=jnp.dtype(config.model.dtype),
                    remat=config.model.remat,
                    attention=config.model.attention,
                )
            critic = Critic(ValueHead(settings.width), settings.surprise, settings.trunk_gradient, separate)
        self.critic = critic
        self.needs_surprise = critic.surprise
        self._score = jax.jit(self._score_rows, static_argnums=0)

    @classmethod
    def check(cls, config):
        """See `Objective.check`."""
        if config.data.pack:
            raise ObjectiveError(
                "config.data.pack is on, but a critic needs one solution per row; set --config.data.pack=False"
            )

    def init_value_params(self, model: MTPTransformer) -> dict:
        """Fresh parameters of the critic."""
        path = self.config.critic.model
        separate_params = converters.load(resolve(path))[1] if self.critic.separate and path else None
        return self.critic.init(jax.random.key(self.config.seed), model, separate_params)

    def prepare(self, train, labelled, tokenizer, workdir):
        """Takes a reward model's outcomes in the place of labels, where asked for."""
        if self.config.data.reward == "reward_model":
            return with_rewards(self.config, train, labelled, workdir / "reward_cache")
        return train, labelled

    def weights(self, batch, scores, mask_BxS, statistics):
        """See `Objective.weights`."""
        settings = self.config.weighting
        advantages_BxS = token_advantages(
            jax.nn.sigmoid(scores["value_logits"]),
            outcomes(batch),
            batch["target_mask"],
            gamma=self.config.critic.gamma,
            lambda_=self._lambda(batch),
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

    def critic_targets(
        self, batch: Batch, scores: dict, *, loss: str, ranking_coef: float
    ) -> tuple[dict, jax.Array, Metrics]:
        """What the values of the global batch should be, and how much each position and pair counts.

        The ranking loss enters by its derivative at the present values, so that a pair may fall into two
        micro-batches: d/dx_correct = -sigmoid(x_incorrect - x_correct), and the opposite for x_incorrect.

        Args:
            batch: as of `weights`; with pairs, rows 2i and 2i + 1 are a correct and an incorrect solution.
            scores: `value_logits` [B, S], and `target_value_logits` [B, S] for the clipped loss.
            loss: "bce" or "clipped".
            ranking_coef: weight of the ranking loss; 0 leaves it out.

        Returns:
            {"targets", "positions", "anchors": [B, S], "pairs": [B]}; the number of positions (fp32); metrics.
        """
        settings, logits_BxS = self.config.critic, scores["value_logits"]
        values_BxS = jax.nn.sigmoid(logits_BxS)
        correct_B = batch["is_correct"] > 0
        targets_BxS, value_positions_BxS = value_targets(
            values_BxS,
            outcomes(batch),
            batch["target_mask"],
            returns=settings.returns,
            gamma=settings.gamma,
            lambda_=self._lambda(batch),
        )
        deltas_BxS = td_errors(values_BxS, outcomes(batch), batch["target_mask"], gamma=settings.gamma)
        metrics = td_error_metrics(deltas_BxS, batch["target_mask"])
        metrics["value_explained_variance"] = explained_variance(values_BxS, targets_BxS, value_positions_BxS)
        targets = {
            "targets": targets_BxS,
            "positions": value_positions_BxS,
            "anchors": jax.nn.sigmoid(scores["target_value_logits"] if loss == "clipped" else logits_BxS),
            "pairs": jnp.zeros(correct_B.shape),
        }
        if ranking_coef:
            last_B = before_last_token(logits_BxS, batch["target_mask"])
            pair_P = correct_B[0::2] & ~correct_B[1::2] & jnp.any(value_positions_BxS, axis=1)[1::2]
            ranking_sum, count = pairwise_ranking_loss(last_B[0::2], last_B[1::2], pair_P)
            metrics["ranking_loss"] = ranking_sum / jnp.maximum(count, 1)
            slope_P = pair_P * jax.nn.sigmoid(last_B[1::2] - last_B[0::2]) * ranking_coef / jnp.maximum(count, 1)
            targets["pairs"] = jnp.stack([-slope_P, slope_P], axis=1).reshape(-1)
        return targets, jnp.maximum(value_positions_BxS.sum(), 1).astype(jnp.float32), metrics

    def value_loss(
        self, value_logits_BxS: jax.Array, rows: Batch, targets: dict, n_positions: jax.Array, loss: str
    ) -> tuple[jax.Array, jax.Array]:
        """These rows' share of the batch's value loss, and of its ranking loss up to a constant."""
        if loss == "clipped":
            total, _ = clipped_value_loss(
                jax.nn.sigmoid(value_logits_BxS),
                targets["anchors"],
                targets["targets"],
                targets["positions"],
                clip=self.config.critic.value_clip,
            )
        else:
            total, _ = value_cross_entropy(value_logits_BxS, targets["targets"], targets["positions"])
        ranking = jnp.sum(targets["pairs"] * before_last_token(value_logits_BxS, rows["target_mask"]))
        return total / n_positions, ranking

    def measure(self, model, params, value_params, tokenizer, batches_of, valid, labelled):
        """What the critic is worth on unseen problems, beside the score that nobody had to train.

        value_auc is of the value before the last token, value_auc_pairs of that on the length-balanced pairs, low and
        high end their 95 %; value_explained_variance is of the Monte Carlo returns; untrained_auc is of the largest
        surprise, where the critic looks at surprise.
        """
        params, config = next_token_model(params, model.config)
        model = model.clone(config=config)
        values, untrained, correct, moments = [], [], [], np.zeros(5)
        for batch in batches_of(labelled):
            value_B, untrained_B, moments_5 = self._score(model, params, value_params, batch)
            real_B = batch["target_mask"].any(1)
            values.append(np.asarray(value_B)[real_B])
            untrained.append(np.asarray(untrained_B)[real_B])
            correct.append(batch["is_correct"][real_B] > 0)
            moments += np.asarray(moments_5, np.float64)
        values, untrained, correct = (np.concatenate(parts) for parts in (values, untrained, correct))
        whole, paired = area_under_curve(values, correct), length_balanced_pairs(labelled).reshape(-1)
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
        if self.needs_surprise:
            measures["untrained_auc"] = area_under_curve(untrained, correct).value
        return measures

    def _score_rows(self, model: MTPTransformer, params: dict, value_params: dict, rows: Batch):
        """Value logit before the last token [B], untrained score [B], and five sums over the value positions."""
        _, _, scores = self.forward(model, params, value_params, None, rows)
        logits_BxS, mask_BxS = scores["value_logits"], rows["target_mask"]
        values_BxS, outcomes_B = jax.nn.sigmoid(logits_BxS), outcomes(rows)
        targets_BxS, positions_BxS = value_targets(
            values_BxS, outcomes_B, mask_BxS, returns="monte_carlo", gamma=self.config.critic.gamma
        )
        over_positions = lambda x: jnp.sum(jnp.where(positions_BxS, x, 0.0))
        residuals_BxS = targets_BxS - values_BxS
        moments = [over_positions(x) for x in (1.0, targets_BxS, targets_BxS**2, residuals_BxS, residuals_BxS**2)]
        untrained_B = (
            untrained_score(scores["features"], mask_BxS) if self.needs_surprise else jnp.zeros(len(outcomes_B))
        )
        return before_last_token(logits_BxS, mask_BxS), untrained_B, jnp.stack(moments)

    def _lambda(self, batch: Batch) -> jax.Array | float:
        """Mixing parameter of the advantages: one number, or one per row."""
        settings = self.config.critic
        if settings.lambda_alpha == 0:
            return settings.lambda_
        return length_adaptive_lambda(batch["target_mask"].sum(1), settings.lambda_alpha)


def outcomes(batch: Batch) -> jax.Array:
    """R of each row's solution, fp32 [B]: the label, or the probability that a reward model gives in its place."""
    if "reward" in batch:
        return batch["reward"]
    return (batch["is_correct"] > 0).astype(jnp.float32)
