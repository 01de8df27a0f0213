"""What a model is worth on held-out data: loss and accuracy per head, greedy pass@1."""

import math
from collections.abc import Callable

import ml_collections

from wmtp_jax.data import evaluation_batches
from wmtp_jax.evaluation import ExecutionError, try_problems
from wmtp_jax.evaluation.heads import evaluate_heads
from wmtp_jax.model import MTPTransformer
from wmtp_jax.report import Measure
from wmtp_jax.training.assets import Assets


def validate_model(
    model: MTPTransformer, params: dict, assets: Assets, config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> dict[str, float]:
    """Measures of the validation split.

    Args:
        model: the network.
        params: its parameters.
        assets: gives the examples, problems and tokenizer.
        config: of the run.
        say: prints a line; told when programs cannot be executed, and why.

    Returns:
        The measures of `evaluate_heads`, and `pass_at_1` and `tokens_per_forward` when programs could be run.
    """
    batches = evaluation_batches(assets.valid, batch_size=config.evaluation.batch_size, buckets=config.data.buckets)
    measures = evaluate_heads(model, params, batches, config.loss.chunk_length)
    if not assets.problems:
        return measures
    try:
        trial = try_problems(
            params,
            model.config,
            assets.tokenizer,
            assets.problems,
            max_new_tokens=config.evaluation.max_new_tokens,
            timeout_s=config.evaluation.timeout_s,
            sandbox=config.evaluation.sandbox,
        )
    except ExecutionError as error:
        say(f"pass@1 skipped: {error}")
        return measures
    return measures | {"pass_at_1": trial.pass_at_1, "tokens_per_forward": trial.tokens_per_forward}


def closing_rows(before: dict[str, float], after: dict[str, float]) -> list[Measure]:
    """The closing table: what a person asks first stands first."""
    n_heads = sum(name.startswith("loss_head_") for name in after)
    rows = [("greedy pass@1", "pass_at_1", "higher"), ("tokens per forward pass", "tokens_per_forward", "higher")]
    rows += [(f"loss, head {k + 1}", f"loss_head_{k + 1}", "lower") for k in range(n_heads)]
    rows += [("perplexity, head 1", "perplexity_head_1", "lower")]
    rows += [(f"top-1 accuracy, head {k + 1}", f"top1_head_{k + 1}", "higher") for k in range(n_heads)]
    return [
        Measure(title, before.get(name, math.nan), after.get(name, math.nan), better)
        for title, name, better in rows
        if name in after
    ]
