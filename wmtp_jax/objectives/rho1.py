"""Rho-1: target tokens count more where the policy's loss exceeds that of a frozen reference model.

Source: Lin et al. 2024, Rho-1 (arXiv 2404.07965), section 2.2. The reference is frozen, so its loss of every training
token is computed once and kept on disk.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import converters
from converters.checkpoint import Checkpoint, open_checkpoint
from wmtp_jax.data import Examples, Tokenizer, evaluation_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.errors import shown
from wmtp_jax.files import files_digest, sha256_of
from wmtp_jax.losses import head_targets, token_scores
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.divergence import evaluate_divergence
from wmtp_jax.objectives.objective import Objective, ObjectiveError
from wmtp_jax.objectives.score_cache import cached_scores, data_name
from wmtp_jax.progress import Progress
from wmtp_jax.storage import resolve
from wmtp_jax.weighting import reference_loss_diff, rho1_weights


class Rho1(Objective):
    """w = softmax of the excess loss over the batch, clipped; or the tokens of largest excess, kept alone."""

    assets = ("rho1.reference",)
    needs_surprise = True
    table_rows = (
        ("KL from the reference", "kl_divergence", "lower"),
        ("loss above the reference", "reference_loss_diff", "lower"),
    )

    def prepare(self, train, labelled, tokenizer, workdir):
        """Adds `reference_nll` to the training data."""
        config = self.config
        reference = resolve(config.rho1.reference)
        name = f"reference-{data_name(config.data.train)}-{reference.name}.safetensors"
        scores = reference_scores(
            train,
            reference,
            tokenizer,
            cache=workdir / "reference_cache" / name,
            batch_size=config.evaluation.batch_size,
            buckets=config.data.buckets,
            chunk_length=config.loss.chunk_length,
            dtype=config.model.dtype,
            attention=config.model.attention,
        )
        return dataclasses.replace(train, token_scores={"reference_nll": scores}), labelled

    def weights(self, batch, scores, mask_BxS, statistics):
        """See `Objective.weights`; both losses are indexed by the target token."""
        nll_BxS = -scores["features"][..., 0]
        weights_BxS = rho1_weights(
            nll_BxS,
            batch["reference_nll"],
            mask_BxS,
            mode=self.config.rho1.mode,
            temperature=self.config.weighting.temperature,
            keep_fraction=self.config.rho1.keep_fraction,
            clip=tuple(self.config.weighting.clip),
        )
        excess = reference_loss_diff(nll_BxS, batch["reference_nll"], mask_BxS)
        return weights_BxS, statistics, {"reference_loss_diff": excess}

    def measure(self, model, params, value_params, tokenizer, batches_of, valid, labelled):
        """KL of the policy from the reference, and the difference of their losses."""
        config = self.config
        reference, reference_params = load_reference(
            resolve(config.rho1.reference),
            tokenizer,
            max_length=config.data.buckets[-1],
            dtype=config.model.dtype,
            attention=config.model.attention,
        )
        return evaluate_divergence(
            model, params, reference, reference_params, batches_of(valid), config.loss.chunk_length
        )


def load_reference(
    directory: Path, tokenizer: Tokenizer, *, max_length: int, dtype: str, attention: str = "dense"
) -> tuple[MTPTransformer, dict]:
    """Reads a reference model; of one with several heads, the trunk and the next-token head.

    Args:
        directory: of a model in any layout that the converters read.
        tokenizer: the policy's.
        max_length: tokens of the longest example.
        dtype: of parameters and computation.
        attention: as of `MTPTransformer`.

    Returns:
        The network (one head) and its parameters.

    Raises:
        ObjectiveError: its vocabulary, tokenizer or context does not fit the policy's data.
        ConverterError: it cannot be read.
    """
    _open_fitting(directory, tokenizer, max_length)
    config, params = converters.load(directory, dtype=dtype)
    params, config = next_token_model(params, config)
    return MTPTransformer(config, dtype=jnp.dtype(dtype), attention=attention), params


def reference_scores(
    examples: Examples,
    directory: Path,
    tokenizer: Tokenizer,
    *,
    cache: Path,
    batch_size: int,
    buckets: tuple[int, ...],
    chunk_length: int,
    dtype: str,
    attention: str = "dense",
) -> np.ndarray:
    """Loss of every token under the reference's next-token head, given the tokens before it in its own example.

    Args:
        examples: the data set.
        directory: of the reference, in any layout that the converters read.
        tokenizer: that made the examples.
        cache: file that keeps the scores.
        batch_size: rows per batch.
        buckets: padded lengths, as for the batches of a run.
        chunk_length: positions per chunk of logits.
        dtype: of the reference's parameters and computation: "float32" or "bfloat16".
        attention: "dense" or "blocked".

    Returns:
        fp32 [sum of lengths] in nats, aligned with `examples.tokens`; 0 at the first token of each example.

    Raises:
        ObjectiveError: the reference does not fit the data, its losses are not finite, or the cached scores belong to
            another reference or other data.
    """
    max_length = int(examples.lengths.max(initial=0))
    checkpoint = _open_fitting(directory, tokenizer, max_length)
    key = {
        "the config or weights of the reference": files_digest(checkpoint.files),
        "the token ids, masks or labels of the data": examples.digest,
        "the tokenizer": tokenizer.digest,
        "the dtype": dtype,
    }

    def score() -> np.ndarray:
        print(f"reference losses: scoring {len(examples):,} examples once with {directory}")
        model, params = load_reference(directory, tokenizer, max_length=max_length, dtype=dtype, attention=attention)
        parts = []
        with Progress(-(-len(examples) // batch_size), "batch", rate="tokens", compiles=True) as progress:
            batches = evaluation_batches(examples, batch_size=batch_size, buckets=buckets)
            for step, batch in enumerate(batches, start=1):
                nll_BxS = np.asarray(_nll(model, params, batch["tokens"], batch["segment_ids"], chunk_length))
                # One example per row, in the order of the examples: what is not padding is the flat column.
                parts.append(nll_BxS[batch["segment_ids"] != 0])
                progress.update(step, f"loss {nll_BxS[batch['target_mask']].mean():.3f}", work=nll_BxS.size)
        scores = np.concatenate(parts)
        if not np.isfinite(scores).all():
            where = int(np.argmin(np.isfinite(scores)))
            example = int(np.searchsorted(examples.offsets, where, side="right")) - 1
            raise ObjectiveError(
                f"the reference {directory} gives a loss of {scores[where]} to token "
                f"{where - examples.offsets[example]} of example {shown(examples.task_id(example))}; take another "
                "reference, or score in float32"
            )
        return scores

    return cached_scores(cache, key, score)


def _open_fitting(directory: Path, tokenizer: Tokenizer, max_length: int) -> Checkpoint:
    """The reference, opened but not read, when its scores can be compared with the policy's token by token."""
    checkpoint = open_checkpoint(directory)
    config = checkpoint.config
    if config.vocab_size != tokenizer.vocab_size:
        raise ObjectiveError(
            f"the reference {directory} has a vocabulary of {config.vocab_size} tokens, the policy's tokenizer "
            f"{tokenizer.path} one of {tokenizer.vocab_size}; take a reference that shares the policy's tokenizer"
        )
    for own in (directory / "tokenizer.model", directory / "tokenizer" / "tokenizer.model"):
        if own.is_file() and sha256_of(own) != tokenizer.digest:
            raise ObjectiveError(
                f"the reference's tokenizer {own} is another one than the policy's {tokenizer.path}, so token ids "
                "mean something else to it; take a reference that shares the policy's tokenizer"
            )
    if config.max_seq_len < max_length:
        raise ObjectiveError(
            f"the longest example has {max_length} tokens, but the context of the reference {directory} ends at "
            f"{config.max_seq_len}; lower config.data.buckets or take a reference with a longer context"
        )
    return checkpoint


@functools.partial(jax.jit, static_argnums=(0, 4))
def _nll(model: MTPTransformer, params: dict, tokens_BxS, segment_ids_BxS, chunk_length: int) -> jax.Array:
    """fp32 [B, S], indexed by the target token; 0 at the first of a row."""
    variables = {"params": params}
    trunk_BxSxD = model.apply(variables, tokens_BxS, segment_ids_BxS, method="trunk_states")
    states_1xBxSxD = model.apply(variables, trunk_BxSxD, segment_ids_BxS, method="head_states")
    kernel_DxV = model.apply(variables, method="unembedding")
    nll_1xBxS, _ = token_scores(states_1xBxSxD, kernel_DxV, head_targets(tokens_BxS, 1), chunk_length)
    return jnp.pad(nll_1xBxS[0, :, :-1], ((0, 0), (1, 0)))
