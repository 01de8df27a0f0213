"""What every objective shares: weights of the global batch become coefficients of each head's loss."""

import abc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from wmtp_jax.data import Examples, Tokenizer
from wmtp_jax.errors import UserError
from wmtp_jax.losses import coefficients, target_weights, valid_targets
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.weighting import (
    Statistics,
    next_token_surprise,
    random_weights,
    shuffled_weights,
    solution_mean_weights,
    uniform_weights,
    weight_metrics,
)

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class ObjectiveError(UserError):
    """An objective that cannot be trained with this config, this data or these assets."""


class Objective(abc.ABC):
    """The rules of one run; every function of a batch takes the whole global batch.

    A subclass gives `weights`, and overrides what else it needs.

    Attributes:
        assets: config fields that name further models on disk, where they are not "".
        needs_labels: whether it trains on correct and incorrect solutions, all labelled.
        needs_surprise: whether scores include the policy's surprise at each token.
        shows_weights: whether the weights' statistics are worth logging.
        clips_weights: whether its weights are clipped to `weighting.clip`.
        table_rows: (title, measure, better) for the closing table, of the measures that it adds.
        critic: a `Critic` whose parameters are trained beside the policy's, else None; an objective with one also has
            `init_value_params`, `critic_targets`, `value_loss` and the measures value_auc and value_auc_pairs, as
            `Verifiable` does.
    """

    assets: tuple[str, ...] = ()
    needs_labels = False
    needs_surprise = False
    shows_weights = True
    clips_weights = True
    table_rows: tuple[tuple[str, str, str], ...] = ()
    critic: Critic | None = None

    def __init__(self, config: ml_collections.ConfigDict, n_heads: int):
        """Takes a config that passed `check`, and N."""
        self.config = ml_collections.FrozenConfigDict(config)
        self.head_weights = tuple(config.loss.head_weights) or (1 / n_heads,) * n_heads
        if config.loss.heads == "next_token":
            self.head_weights = (1.0,) + (0.0,) * (n_heads - 1)
        if len(self.head_weights) != n_heads:
            raise ObjectiveError(
                f"config.loss.head_weights has {len(self.head_weights)} entries, but the model has {n_heads} heads; "
                "give one weight per head or () for equal ones"
            )

    @classmethod
    def check(cls, config: ml_collections.ConfigDict) -> None:
        """Refuses fields that contradict the objective.

        Raises:
            ObjectiveError: names the field, and what to do.
        """
        if config.data.reward == "reward_model":
            raise ObjectiveError(
                f"config.data.reward is 'reward_model', but the objective {config.objective!r} reads no reward; take "
                "configs/verifiable.py, or set --config.data.reward=outcome"
            )

    def prepare(
        self, train: Examples, labelled: Examples | None, tokenizer: Tokenizer, workdir: Path
    ) -> tuple[Examples, Examples | None]:
        """Adds to the data what frozen models say about it, computed once and kept in `workdir`, that of all runs.

        `labelled` is validation data with correct and incorrect solutions, where the objective needs labels.
        """
        return train, labelled

    def forward(
        self,
        model: MTPTransformer,
        params: dict,
        value_params: dict | None,
        target_value_params: dict | None,
        batch: Batch,
    ) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
        """The policy's forward pass, and the scores that the weights are made of.

        Args:
            model: the policy.
            params: its parameters.
            value_params: of the critic, if there is one.
            target_value_params: of the critic's slow copy, where the value loss is clipped around it.
            batch: `tokens`, `segment_ids`, `target_mask` [B, S].

        Returns:
            Normed head states [N, B, S, D], the unembedding [D, V], and scores: `features` [B, S, 3] of `surprise`;
            with a critic `value_logits` [B, S] and, of the slow copy, `target_value_logits` [B, S].
        """
        variables = {"params": params}
        trunk_BxSxD = model.apply(variables, batch["tokens"], batch["segment_ids"], method="trunk_states")
        states_NxBxSxD = model.apply(variables, trunk_BxSxD, batch["segment_ids"], method="head_states")
        kernel_DxV = model.apply(variables, method="unembedding")
        scores = {}
        if self.needs_surprise:
            scores["features"] = next_token_surprise(
                states_NxBxSxD[0], kernel_DxV, batch["tokens"], self.config.loss.chunk_length
            )
        if self.critic:
            normed_BxSxD = model.apply(variables, trunk_BxSxD, method="normed")
            for name, its_params in (("value_logits", value_params), ("target_value_logits", target_value_params)):
                if its_params is not None:
                    scores[name] = self.critic.value_logits(its_params, batch, normed_BxSxD, scores.get("features"))
        return states_NxBxSxD, kernel_DxV, scores

    @abc.abstractmethod
    def weights(
        self, batch: Batch, scores: dict, mask_BxS: jax.Array, statistics: Statistics
    ) -> tuple[jax.Array, Statistics, Metrics]:
        """Weight of each target token.

        Args:
            batch: `tokens`, `segment_ids`, `target_mask` [B, S], `is_correct` [B], and what `prepare` added.
            scores: of `forward`, without gradient.
            mask_BxS: the target tokens that the policy learns (`policy_mask`).
            statistics: running moments, read before they are updated.

        Returns:
            fp32 [B, S], 0 outside the mask; the new statistics; metrics.
        """

    def policy_mask(self, batch: Batch) -> jax.Array:
        """Target tokens that the policy learns to write: bool [B, S]; those of incorrect solutions may be left out."""
        if self.config.data.policy_samples == "all":
            return batch["target_mask"]
        return batch["target_mask"] & (batch["is_correct"] != 0)[:, None]

    def policy_targets(
        self, batch: Batch, scores: dict, statistics: Statistics, key: jax.Array
    ) -> tuple[dict[str, jax.Array], Statistics, Metrics]:
        """Weights of the global batch (see `weights`), as each head's coefficients; controls may draw with the key.

        Returns:
            {"coefficients": fp32, "valid": bool}, each [N, B, S]; the new statistics; metrics.
        """
        mask_BxS = self.policy_mask(batch)
        weights_BxS, statistics, metrics = self.weights(batch, scores, mask_BxS, statistics)
        weights_BxS = self._control(weights_BxS, mask_BxS, key)
        if self.shows_weights:
            clip = tuple(self.config.weighting.clip) if self.clips_weights else None
            metrics |= weight_metrics(weights_BxS, mask_BxS, clip=clip)
        valid_NxBxS = valid_targets(mask_BxS, batch["segment_ids"], len(self.head_weights))
        weights_NxBxS = target_weights(weights_BxS, valid_NxBxS)
        coefficients_NxBxS = coefficients(weights_NxBxS, jnp.array(self.head_weights), weights_NxBxS.sum((1, 2)))
        return {"coefficients": coefficients_NxBxS, "valid": valid_NxBxS}, statistics, metrics

    def measure(
        self,
        model: MTPTransformer,
        params: dict,
        value_params: dict | None,
        tokenizer: Tokenizer,
        batches_of: Callable[[Examples], Iterable[Batch]],
        valid: Examples,
        labelled: Examples | None,
    ) -> dict[str, float]:
        """Further measures on the validation split, named as in `table_rows`.

        Args:
            model: the policy.
            params: its parameters.
            value_params: of the critic, if there is one.
            tokenizer: of the policy.
            batches_of: gives evaluation batches of examples, in their order.
            valid: validation data of the kind that the policy learns.
            labelled: as of `prepare`.
        """
        return {}

    def _control(self, weights_BxS: jax.Array, mask_BxS: jax.Array, key: jax.Array) -> jax.Array:
        """The weights, or what a control puts in their place."""
        settings = self.config.weighting
        if settings.control == "uniform":
            return uniform_weights(mask_BxS)
        if settings.control == "shuffled":
            return shuffled_weights(key, weights_BxS, mask_BxS)
        if settings.control == "solution_mean":
            return solution_mean_weights(weights_BxS, mask_BxS)
        if settings.control == "random":
            count = jnp.maximum(mask_BxS.sum(), 1)
            mean = jnp.maximum(jnp.sum(weights_BxS) / count, 1e-6)  # a batch may hold tokens of weight 0 alone
            variance = jnp.sum(jnp.where(mask_BxS, (weights_BxS - mean) ** 2, 0.0)) / count
            return random_weights(key, mask_BxS, mean=mean, variance=variance, clip=tuple(settings.clip))
        return weights_BxS
