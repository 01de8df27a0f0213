"""What a model is worth on held-out data: loss and accuracy per head, the objective's measures, greedy pass@1."""

import math
from collections.abc import Iterable, Mapping, Sequence

import ml_collections
import numpy as np

from wmtp_jax.data import Examples, evaluation_batches, read_records
from wmtp_jax.evaluation import Problem, record_problems
from wmtp_jax.evaluation.answers import MEMORY_BYTES, try_problems
from wmtp_jax.evaluation.heads import evaluate_heads
from wmtp_jax.evaluation.summary import execution_note
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.objective import Batch, Objective
from wmtp_jax.report import Measure
from wmtp_jax.sandbox import ExecutionError
from wmtp_jax.storage import resolve
from wmtp_jax.training.assets import Assets

_WEIGHTS = ("weight_std", "weight_max", "weight_entropy", "effective_sample_share", "weight_position_correlation")


class Validation:
    """Measures on the validation split, for the start and the end of a run."""

    def __init__(self, config: ml_collections.ConfigDict, model: MTPTransformer, objective: Objective, assets: Assets):
        self._config, self._model, self._objective, self._assets = config, model, objective, assets
        self._problems = _problems(config)

    def measure(self, params: dict, value_params: dict | None) -> dict[str, float]:
        """All measures; pass_at_1 and tokens_per_forward only where programs can be run, else a line says why not."""
        heads = evaluate_heads(self._model, params, self._batches(self._assets.valid), self._config.loss.chunk_length)
        return heads | self.measure_objective(params, value_params) | self._pass_at_1(params)

    def measure_objective(self, params: dict, value_params: dict | None) -> dict[str, float]:
        """The measures that the objective adds."""
        assets = self._assets
        return self._objective.measure(
            self._model, params, value_params, assets.tokenizer, self._batches, assets.valid, assets.labelled
        )

    def _batches(self, examples: Examples) -> Iterable[Batch]:
        return evaluation_batches(
            examples, batch_size=self._config.evaluation.batch_size, buckets=self._config.data.buckets
        )

    def _pass_at_1(self, params: dict) -> dict[str, float]:
        settings = self._config.evaluation
        if not self._problems:
            return {}
        try:
            measures = try_problems(
                params,
                self._model.config,
                self._assets.tokenizer,
                self._problems,
                max_new_tokens=settings.max_new_tokens,
                timeout_s=settings.timeout_s,
                sandbox=settings.sandbox,
            )
        except ExecutionError as error:
            print(f"pass@1 skipped: {error}")
            return {}
        print(execution_note(settings.sandbox, settings.timeout_s, MEMORY_BYTES >> 20))
        return measures


def _problems(config: ml_collections.ConfigDict) -> list[Problem]:
    """A fixed, evenly spread part of the validation problems, for greedy pass@1."""
    if not config.evaluation.problems:
        return []
    path = resolve(config.data.valid)
    problems = record_problems(read_records(path), template=config.data.template, where=str(path))
    chosen = np.linspace(0, len(problems) - 1, min(config.evaluation.problems, len(problems))).round().astype(int)
    return [problems[i] for i in chosen]


def closing_rows(
    before: Mapping[str, float], after: Mapping[str, float], log: Sequence[Mapping], objective: Objective
) -> list[Measure]:
    """The closing table, the most important first; `log` has the weights' statistics at the first and last step."""
    n_heads = sum(name.startswith("loss_head_") for name in after)
    rows = [("greedy pass@1", "pass_at_1", "higher"), ("tokens per forward pass", "tokens_per_forward", "higher")]
    rows += [(f"loss, head {k + 1}", f"loss_head_{k + 1}", "lower") for k in range(n_heads)]
    rows += [("perplexity, head 1", "perplexity_head_1", "lower")]
    rows += [(f"top-1 accuracy, head {k + 1}", f"top1_head_{k + 1}", "higher") for k in range(n_heads)]
    rows += objective.table_rows
    weighted = [entry for entry in log if entry.get("weight_std") is not None]
    if weighted:
        before = {**before, **{name: weighted[0][name] for name in _WEIGHTS}}
        after = {**after, **{name: weighted[-1][name] for name in _WEIGHTS}}
        rows += [(name.replace("_", " "), name, "none") for name in _WEIGHTS]
    return [
        Measure(title, before.get(name, math.nan), after[name], better) for title, name, better in rows if name in after
    ]
