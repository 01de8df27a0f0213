"""Rho-1: target tokens count more where the policy's loss exceeds that of a frozen reference model.

Source: Lin et al. 2024, Rho-1 (arXiv 2404.07965), section 2.2. The reference is frozen, so its loss of every training
token is computed once and kept on disk.
"""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import converters
from converters.checkpoint import Checkpoint, open_checkpoint
from wmtp_jax.data import Examples, Tokenizer, evaluation_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.errors import shown
from wmtp_jax.files import files_digest, sha256_of
from wmtp_jax.losses import head_targets, scan_chunks, token_scores, valid_targets
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.objective import Objective, ObjectiveError
from wmtp_jax.objectives.score_cache import cached_scores, data_name
from wmtp_jax.progress import Progress
from wmtp_jax.storage import resolve
from wmtp_jax.weighting import kl_divergence, reference_loss_diff, rho1_weights


class Rho1(Objective):
    """w = softmax of the excess loss over the batch, clipped; or the tokens of largest excess, kept alone."""

    assets = ("rho1.reference",)
    needs_surprise = True
    table_rows = (
        ("KL from the reference", "kl_divergence", "lower"),
        ("loss above the reference", "reference_loss_diff", "lower"),
    )

    def prepare(self, train, labelled, tokenizer, workdir):
        """Adds `reference_nll` to the training data: nats of every token, given those before it in its own example.

        Raises:
            ObjectiveError: the reference does not fit the data, its losses are not finite, or the cached ones belong to
                another reference or other data.
        """
        directory = resolve(self.config.rho1.reference)
        checkpoint = _open_fitting(directory, tokenizer, int(train.lengths.max(initial=0)))
        key = {
            "the config or weights of the reference": files_digest(checkpoint.files),
            "the token ids, masks or labels of the data": train.digest,
            "the tokenizer": tokenizer.digest,
            "the dtype": self.config.model.dtype,
        }
        name = f"reference-{data_name(self.config.data.train)}-{directory.name}.safetensors"
        nll = cached_scores(workdir / "reference_cache" / name, key, lambda: self._reference_nll(train, tokenizer))
        return dataclasses.replace(train, token_scores={"reference_nll": nll}), labelled

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
        reference, reference_params = self.load_reference(tokenizer, self.config.data.buckets[-1])
        return evaluate_divergence(
            model, params, reference, reference_params, batches_of(valid), self.config.loss.chunk_length
        )

    def load_reference(self, tokenizer: Tokenizer, max_length: int) -> tuple[MTPTransformer, dict]:
        """The reference's network with its next-token head alone, and its parameters.

        Args:
            tokenizer: the policy's.
            max_length: tokens of the longest example.

        Raises:
            ObjectiveError: its vocabulary, tokenizer or context does not fit the policy's data.
            ConverterError: it cannot be read.
        """
        directory, settings = resolve(self.config.rho1.reference), self.config.model
        _open_fitting(directory, tokenizer, max_length)
        config, params = converters.load(directory, dtype=settings.dtype)
        params, config = next_token_model(params, config)
        return MTPTransformer(config, dtype=jnp.dtype(settings.dtype), attention=settings.attention), params

    def _reference_nll(self, examples: Examples, tokenizer: Tokenizer) -> np.ndarray:
        """fp32 [sum of lengths], aligned with `examples.tokens`; 0 at the first token of each example."""
        directory, batch_size = self.config.rho1.reference, self.config.evaluation.batch_size
        print(f"reference losses: scoring {len(examples):,} examples once with {directory}")
        model, params = self.load_reference(tokenizer, int(examples.lengths.max(initial=0)))
        parts = []
        with Progress(-(-len(examples) // batch_size), "batch", rate="tokens", compiles=True) as progress:
            batches = evaluation_batches(examples, batch_size=batch_size, buckets=self.config.data.buckets)
            for step, batch in enumerate(batches, start=1):
                rows = batch["tokens"], batch["segment_ids"]
                nll_BxS = np.asarray(_nll(model, params, *rows, self.config.loss.chunk_length))
                # One example per row, in the order of the examples: what is not padding is the flat column.
                parts.append(nll_BxS[batch["segment_ids"] != 0])
                progress.update(step, f"loss {nll_BxS[batch['target_mask']].mean():.3f}", work=nll_BxS.size)
        nll = np.concatenate(parts)
        if not np.isfinite(nll).all():
            where = int(np.argmin(np.isfinite(nll)))
            example = int(np.searchsorted(examples.offsets, where, side="right")) - 1
            raise ObjectiveError(
                f"the reference {directory} gives a loss of {nll[where]} to token "
                f"{where - examples.offsets[example]} of example {shown(examples.task_id(example))}; take another "
                "reference, or score in float32"
            )
        return nll


def evaluate_divergence(
    model: MTPTransformer,
    params: dict,
    reference_model: MTPTransformer,
    reference_params: dict,
    batches: Iterable[dict],
    chunk_length: int = 128,
) -> dict[str, float]:
    """How far a policy's next-token head is from a reference's on held-out tokens.

    Args:
        model: the policy.
        params: its parameters.
        reference_model: of the same vocabulary.
        reference_params: its parameters.
        batches: `tokens`, `segment_ids`, `target_mask`, each [B, S].
        chunk_length: positions per chunk; two chunks of logits are held at a time.

    Returns:
        Means over all targets in nats: kl_divergence, KL(policy || reference), and reference_loss_diff, the policy's
        loss minus the reference's; NaN without a single target.
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
