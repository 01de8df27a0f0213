"""What a model is worth on held-out data: loss and accuracy per head, greedy pass@1, the critic, the reference."""

import math
from collections.abc import Mapping, Sequence

import ml_collections

from wmtp_jax.data import evaluation_batches
from wmtp_jax.evaluation.answers import MEMORY_BYTES, try_problems
from wmtp_jax.evaluation.divergence import evaluate_divergence
from wmtp_jax.evaluation.heads import evaluate_heads
from wmtp_jax.evaluation.summary import execution_note
from wmtp_jax.model import MTPTransformer
from wmtp_jax.report import Measure
from wmtp_jax.sandbox import ExecutionError
from wmtp_jax.storage import resolve
from wmtp_jax.training.assets import Assets
from wmtp_jax.training.objective import Objective
from wmtp_jax.training.reference import load_reference
from wmtp_jax.training.stage1 import critic_evaluator


class Validation:
    """The validation split's measures, for the start and the end of a run."""

    def __init__(self, config: ml_collections.ConfigDict, model: MTPTransformer, objective: Objective, assets: Assets):
        self._config, self._model, self._objective, self._assets = config, model, objective, assets

    def measure(self, params: dict, value_params: dict | None) -> dict[str, float]:
        """Measures of `evaluate_heads`; with a critic those of `measure_critic`, for Rho-1 those of the reference.

        `pass_at_1` and `tokens_per_forward` are there when programs could be run; else a line says why not.

        Args:
            params: of the policy.
            value_params: of the critic, if there is one.
        """
        config, model = self._config, self._model
        measures = evaluate_heads(model, params, self._batches(), config.loss.chunk_length)
        if self._objective.critic:
            measures |= critic_evaluator(model, self._objective, self._assets, config)(params, value_params)
        if config.objective == "rho1":
            reference, reference_params = load_reference(
                resolve(config.rho1.reference),
                self._assets.tokenizer,
                max_length=config.data.buckets[-1],
                dtype=config.model.dtype,
                attention=config.model.attention,
            )
            measures |= evaluate_divergence(
                model, params, reference, reference_params, self._batches(), config.loss.chunk_length
            )
        return measures | self._passes(params)

    def _batches(self):
        return evaluation_batches(
            self._assets.valid, batch_size=self._config.evaluation.batch_size, buckets=self._config.data.buckets
        )

    def _passes(self, params: dict) -> dict[str, float]:
        settings = self._config.evaluation
        if not self._assets.problems:
            return {}
        try:
            measures = try_problems(
                params,
                self._model.config,
                self._assets.tokenizer,
                self._assets.problems,
                max_new_tokens=settings.max_new_tokens,
                timeout_s=settings.timeout_s,
                sandbox=settings.sandbox,
            )
        except ExecutionError as error:
            print(f"pass@1 skipped: {error}")
            return {}
        print(execution_note(settings.sandbox, settings.timeout_s, MEMORY_BYTES >> 20))
        return measures


def closing_rows(before: Mapping[str, float], after: Mapping[str, float], log: Sequence[Mapping]) -> list[Measure]:
    """The closing table: what a person asks first stands first.

    Args:
        before: measures at the start.
        after: measures at the end.
        log: entries of metrics.jsonl, for the weights' statistics at the first and the last step.
    """
    n_heads = sum(name.startswith("loss_head_") for name in after)
    rows = [("greedy pass@1", "pass_at_1", "higher"), ("tokens per forward pass", "tokens_per_forward", "higher")]
    rows += [(f"loss, head {k + 1}", f"loss_head_{k + 1}", "lower") for k in range(n_heads)]
    rows += [("perplexity, head 1", "perplexity_head_1", "lower")]
    rows += [(f"top-1 accuracy, head {k + 1}", f"top1_head_{k + 1}", "higher") for k in range(n_heads)]
    rows += [
        ("critic AUC", "value_auc", "higher"),
        ("critic AUC, lower end of 95 %", "value_auc_low", "higher"),
        ("critic AUC, upper end of 95 %", "value_auc_high", "higher"),
        ("critic AUC, pairs of like length", "value_auc_pairs", "higher"),
        ("critic explained variance", "value_explained_variance", "higher"),
        ("AUC of the untrained score", "untrained_auc", "higher"),
        ("KL from the reference", "kl_divergence", "lower"),
        ("loss above the reference", "reference_loss_diff", "lower"),
    ]
    weighted = [entry for entry in log if "weight_std" in entry]
    if weighted:
        names = ("weight_std", "weight_max", "weight_entropy", "effective_sample_share", "weight_position_correlation")
        before = {**before, **{name: weighted[0][name] for name in names}}
        after = {**after, **{name: weighted[-1][name] for name in names}}
        rows += [(name.replace("_", " "), name, "none") for name in names]
    return [
        Measure(title, before.get(name, math.nan), after[name], better) for title, name, better in rows if name in after
    ]
