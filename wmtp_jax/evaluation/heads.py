"""How well each head predicts held-out tokens."""

import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from wmtp_jax.data import Record, Tokenizer, encode_record, evaluation_batches, from_examples
from wmtp_jax.evaluation.problems import Problem
from wmtp_jax.losses import head_targets, token_scores, valid_targets
from wmtp_jax.model import MTPTransformer

_BATCH_SIZE = 16
_SHORTEST_BUCKET = 64


def evaluate_heads(
    model: MTPTransformer, params: dict, batches: Iterable[dict], chunk_length: int = 128
) -> dict[str, float]:
    """Loss (nats per token), perplexity, top-1 and top-5 accuracy of every head over all batches.

    Args:
        model: the network.
        params: its parameters.
        batches: `tokens`, `segment_ids`, `target_mask`, each [B, S].
        chunk_length: positions per chunk of logits.

    Returns:
        {"loss": mean over heads, "loss_head_1": .., "perplexity_head_1": .., "top1_head_1": .., "top5_head_1": ..};
        a head without a single target has NaN.
    """
    score = jax.jit(_batch_sums, static_argnums=(0, 3))
    sums_4xN = np.zeros((4, model.config.n_future_tokens), np.float64)
    for batch in batches:
        sums_4xN += np.asarray(score(model, params, batch, chunk_length), np.float64)
    count_N = sums_4xN[0]
    with np.errstate(invalid="ignore"):
        loss_N, top1_N, top5_N = sums_4xN[1:] / count_N
    measures = {"loss": float(np.mean(loss_N))}
    for k, loss in enumerate(loss_N, start=1):
        measures |= {
            f"loss_head_{k}": float(loss),
            f"perplexity_head_{k}": math.exp(min(loss, 700.0)),
            f"top1_head_{k}": float(top1_N[k - 1]),
            f"top5_head_{k}": float(top5_N[k - 1]),
        }
    return measures


def _batch_sums(model: MTPTransformer, params: dict, batch: dict, chunk_length: int) -> jax.Array:
    """Per head: number of targets, sum of nll, number ranked first, number ranked among the first five."""
    n_heads = model.config.n_future_tokens
    variables = {"params": params}
    trunk = model.apply(variables, batch["tokens"], batch["segment_ids"], method="trunk_states")
    states = model.apply(variables, trunk, batch["segment_ids"], method="head_states")
    kernel = model.apply(variables, method="unembedding")
    nll, rank = token_scores(states, kernel, head_targets(batch["tokens"], n_heads), chunk_length)
    valid = valid_targets(batch["target_mask"], batch["segment_ids"], n_heads)
    total = lambda x: jnp.where(valid, x, 0).astype(jnp.float32).sum((1, 2))
    return jnp.stack([total(jnp.ones_like(nll)), total(nll), total(rank < 1), total(rank < 5)])


def score_solutions(model: MTPTransformer, params: dict, tokenizer: Tokenizer, problems: Sequence[Problem]) -> dict:
    """Measures of every head on the problems' own solutions, as far as they have some that fit the context.

    Returns:
        {"heads": as of `evaluate_heads`, "heads_solutions": how many solutions}, or {} where there is none.
    """
    records = (Record(problem.prompt, "", problem.solution, problem.task_id, True, {}) for problem in problems)
    found = (encode_record(record, tokenizer, "raw", model.config.max_seq_len) for record in records if record.output)
    examples = [example for example in found if example is not None]
    if not examples:
        return {}
    longest = max(len(example.tokens) for example in examples)
    buckets = [_SHORTEST_BUCKET]
    while buckets[-1] < longest:
        buckets.append(2 * buckets[-1])
    batches = evaluation_batches(from_examples(examples), batch_size=_BATCH_SIZE, buckets=buckets)
    return {"heads": evaluate_heads(model, params, batches), "heads_solutions": len(examples)}
