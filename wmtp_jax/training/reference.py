"""What a frozen reference model says about every token of a data set (Rho-1): computed once, then read from disk."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import converters
from converters.checkpoint import Checkpoint, open_checkpoint
from wmtp_jax.data import Examples, Tokenizer, evaluation_batches
from wmtp_jax.decoding import next_token_model
from wmtp_jax.losses import head_targets, token_scores
from wmtp_jax.model import MTPTransformer
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.progress import Progress
from wmtp_jax.training.score_cache import files_digest, read_scores, write_scores


def load_reference(
    directory: str | Path, tokenizer: Tokenizer, *, max_length: int, dtype: str, attention: str = "dense"
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
        TrainingError: its vocabulary, tokenizer or context does not fit the policy's data.
        ConverterError: it cannot be read.
    """
    _open_fitting(directory, tokenizer, max_length)
    config, params = converters.load(directory, dtype=dtype)
    params, config = next_token_model(params, config)
    return MTPTransformer(config, dtype=jnp.dtype(dtype), attention=attention), params


def reference_scores(
    examples: Examples,
    directory: str | Path,
    *,
    tokenizer: Tokenizer,
    name: str,
    cache_directory: str | Path,
    batch_size: int,
    buckets: Sequence[int],
    chunk_length: int,
    dtype: str,
    attention: str = "dense",
    say: Callable[[str], None],
) -> np.ndarray:
    """Loss of every token under the reference's next-token head, given the tokens before it in its own example.

    The scores are kept as `cache_directory`/reference-`name`.safetensors together with digests of what they depend
    on: every byte of the reference's config and weights, the token ids, masks and labels, the tokenizer, the dtype.

    Args:
        examples: the data set.
        directory: of the reference, in any layout that the converters read.
        tokenizer: that made the examples.
        name: of the data set, such as "train".
        cache_directory: where the scores are kept.
        batch_size: rows per batch.
        buckets: padded lengths, as for the batches of a run.
        chunk_length: positions per chunk of logits.
        dtype: of the reference's parameters and computation: "float32" or "bfloat16".
        attention: "dense" or "blocked".
        say: prints a line.

    Returns:
        fp32 [sum of lengths] in nats, aligned with `examples.tokens`; 0 at the first token of each example.

    Raises:
        TrainingError: the reference does not fit the data, its losses are not finite, or the cached scores belong to
            another reference or other data.

    Source: the reference loss of Lin et al. 2024, Rho-1 (arXiv 2404.07965), section 2.2.
    """
    directory = Path(directory)
    path = Path(cache_directory) / f"reference-{name}.safetensors"
    max_length = int(examples.lengths.max(initial=0))
    checkpoint = _open_fitting(directory, tokenizer, max_length)
    key = {
        "the config or weights of the reference": files_digest(checkpoint.files),
        "the token ids, masks or labels of the data": examples.digest,
        "the tokenizer": tokenizer.digest,
        "the dtype": dtype,
    }
    if path.exists():
        scores = read_scores(path, key)
        say(f"reference losses of the {name} data: read from {path}")
        return scores
    say(f"reference losses of the {name} data: scoring {len(examples):,} examples once with {directory}")
    model, params = load_reference(directory, tokenizer, max_length=max_length, dtype=dtype, attention=attention)
    scores = _score(model, params, examples, batch_size, buckets, chunk_length)
    _check_finite(scores, examples, directory)
    write_scores(path, key, scores)
    return scores


def _open_fitting(directory: str | Path, tokenizer: Tokenizer, max_length: int) -> Checkpoint:
    """The reference, opened but not read, when its scores can be compared with the policy's token by token."""
    checkpoint = open_checkpoint(directory)
    config = checkpoint.config
    if config.vocab_size != tokenizer.vocab_size:
        raise TrainingError(
            f"the reference {directory} has a vocabulary of {config.vocab_size} tokens, the policy's tokenizer "
            f"{tokenizer.path} one of {tokenizer.vocab_size}; take a reference that shares the policy's tokenizer"
        )
    for own in (Path(directory) / "tokenizer.model", Path(directory) / "tokenizer" / "tokenizer.model"):
        if own.is_file() and hashlib.sha256(own.read_bytes()).hexdigest() != tokenizer.digest:
            raise TrainingError(
                f"the reference's tokenizer {own} is another one than the policy's {tokenizer.path}, so token ids "
                "mean something else to it; take a reference that shares the policy's tokenizer"
            )
    if config.max_seq_len < max_length:
        raise TrainingError(
            f"the longest example has {max_length} tokens, but the context of the reference {directory} ends at "
            f"{config.max_seq_len}; lower config.data.buckets or take a reference with a longer context"
        )
    return checkpoint


def _score(
    model: MTPTransformer,
    params: dict,
    examples: Examples,
    batch_size: int,
    buckets: Sequence[int],
    chunk_length: int,
) -> np.ndarray:
    parts = []
    with Progress(-(-len(examples) // batch_size)) as progress:
        batches = evaluation_batches(examples, batch_size=batch_size, buckets=buckets)
        for step, batch in enumerate(batches, start=1):
            nll_BxS = np.asarray(_nll(model, params, batch["tokens"], batch["segment_ids"], chunk_length))
            # One example per row, in the order of the examples: what is not padding is the flat column.
            parts.append(nll_BxS[batch["segment_ids"] != 0])
            progress.update(step, [float(nll_BxS[batch["target_mask"]].mean())], tokens=nll_BxS.size)
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _nll(model: MTPTransformer, params: dict, tokens_BxS, segment_ids_BxS, chunk_length: int) -> jax.Array:
    """fp32 [B, S], indexed by the target token; 0 at the first of a row."""
    variables = {"params": params}
    trunk_BxSxD = model.apply(variables, tokens_BxS, segment_ids_BxS, method="trunk_states")
    states_1xBxSxD = model.apply(variables, trunk_BxSxD, segment_ids_BxS, method="head_states")
    kernel_DxV = model.apply(variables, method="unembedding")
    nll_1xBxS, _ = token_scores(states_1xBxSxD, kernel_DxV, head_targets(tokens_BxS, 1), chunk_length)
    return jnp.pad(nll_1xBxS[0, :, :-1], ((0, 0), (1, 0)))


def _check_finite(scores: np.ndarray, examples: Examples, directory: Path) -> None:
    if np.isfinite(scores).all():
        return
    where = int(np.argmin(np.isfinite(scores)))
    example = int(np.searchsorted(examples.offsets, where, side="right")) - 1
    raise TrainingError(
        f"the reference {directory} gives a loss of {scores[where]} to token {where - examples.offsets[example]} of "
        f"example '{examples.task_ids[example]}'; take another reference, or score in float32"
    )
