"""What a reward model says about whole solutions: scored once, read from disk afterwards, and turned into outcomes.

A reward model gives a solution a score s without a scale of its own: trained on comparisons, it says that one solution
is preferred to another with probability sigmoid(s - s') (Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155,
section 3.5). The critic needs a probability: its value is one, its loss is a cross-entropy, and advantages are
differences from it. So the outcome R is the probability that the solution is preferred to the median one of the
training data, R = sigmoid(s - median); it takes the place of is_correct as the reward of the last token, and the label
"correct" becomes R > 1/2.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import converters
from converters.checkpoint import open_checkpoint
from wmtp_jax.data import UNKNOWN, Examples, Tokenizer, load_tokenizer
from wmtp_jax.files import files_digest
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.objective import ObjectiveError
from wmtp_jax.objectives.score_cache import cached_scores, data_name
from wmtp_jax.progress import Progress
from wmtp_jax.storage import resolve
from wmtp_jax.weighting import area_under_curve

_PAD_ID = 0
_MAX_LENGTH = 2048
_SHORTEST_BUCKET = 64
_SORTED_BATCHES = 64  # batches whose rows are sorted by length together

Solution = tuple[str, str]


def with_rewards(config, train: Examples, labelled: Examples, cache: Path) -> tuple[Examples, Examples]:
    """A reward model's outcomes in the place of is_correct, in training and validation data; `cache` keeps scores."""
    scores = []
    for examples, path in ((train, config.data.train), (labelled, config.data.valid)):
        name = f"reward-{data_name(path)}-{Path(config.data.reward_model).name}.safetensors"
        scores.append(reward_scores(config, Solutions(examples), cache / name))
        print(f"rewards of {Path(path).name}: {agreement(scores[-1], examples.is_correct)}")
    median = float(np.median(scores[0]))
    train, labelled = (
        with_outcomes(examples, reward_outcomes(own, median))
        for examples, own in zip((train, labelled), scores, strict=True)
    )
    return train, labelled


def reward_scores(config, solutions: Collection[Solution], cache: Path) -> np.ndarray:
    """Scores of whole solutions, computed once per reward model and data.

    Args:
        config: of the run; `data.reward_model` is the directory of one, as published or under storage/models_v2, with
            its tokenizer.
        solutions: (instruction, output) pairs.
        cache: file that keeps the scores.

    Returns:
        fp32 [n], aligned with `solutions`.

    Raises:
        ObjectiveError: scores that are not finite, or cached ones of another model or other data.
        ConverterError: the directory holds no reward model.
        DataError: it has no tokenizer, or one of another vocabulary.
    """
    directory, batch_size = resolve(config.data.reward_model), config.evaluation.batch_size
    dtype, attention = config.model.dtype, config.model.attention
    checkpoint = open_checkpoint(directory)
    tokenizer = load_tokenizer(directory, vocab_size=checkpoint.config.vocab_size)
    key = {
        "the config or weights of the reward model": files_digest(checkpoint.files),
        "the texts": _digest(solutions),
        "the tokenizer": tokenizer.digest,
        "the dtype": dtype,
    }

    def score() -> np.ndarray:
        print(f"rewards: scoring {len(solutions):,} solutions once with {directory}")
        model_config, params, kernel_Dx1 = converters.load_reward_model(directory, dtype=dtype)
        model = MTPTransformer(model_config, dtype=jnp.dtype(dtype), attention=attention)
        scores = np.zeros(len(solutions), np.float32)
        with Progress(-(-len(solutions) // batch_size), "batch", rate="tokens", compiles=True) as progress:
            batches = _batches(solutions, tokenizer, batch_size, min(_MAX_LENGTH, model_config.max_seq_len))
            for step, (rows, tokens_BxS) in enumerate(batches, start=1):
                scores[rows] = np.asarray(last_scores(model, params, kernel_Dx1, tokens_BxS))[: len(rows)]
                progress.update(step, work=tokens_BxS.size)
        if not np.isfinite(scores).all():
            worst = int(np.argmin(np.isfinite(scores)))
            raise ObjectiveError(
                f"{directory} gives solution {worst} the score {scores[worst]}; score in float32 instead"
            )
        return scores

    return cached_scores(cache, key, score)


def chat_tokens(instruction: str, output: str, tokenizer: Tokenizer, max_length: int) -> list[int]:
    """At most `max_length` tokens that a reward model reads, in the template of its model card.

    The card scores the text `<s>[INST] instruction </s> [/INST] output</s>`, before which its tokenizer puts one more
    BOS; a longer text loses its beginning, but for that BOS.

    Source: model card of berkeley-nest/Starling-RM-7B-alpha.
    """
    asked = tokenizer.encode_continuation(f"[INST] {instruction} ")
    answered = tokenizer.encode_continuation(f" [/INST] {output}")
    text = [tokenizer.bos_id, *asked, tokenizer.eos_id, *answered, tokenizer.eos_id]
    return [tokenizer.bos_id, *text[-(max_length - 1) :]]


@functools.partial(jax.jit, static_argnums=0)
def last_scores(model: MTPTransformer, params: dict, kernel_Dx1: jax.Array, tokens_BxS: jax.Array) -> jax.Array:
    """fp32 [B], the value head's output at the token before the first padding (id 0), or at the last one."""
    tokens_BxS = jnp.asarray(tokens_BxS)
    padding_BxS = tokens_BxS == _PAD_ID
    length_B = jnp.where(padding_BxS.any(1), jnp.argmax(padding_BxS, axis=1), tokens_BxS.shape[1])
    variables = {"params": params}
    trunk_BxSxD = model.apply(variables, tokens_BxS, method="trunk_states")
    states_BxSxD = model.apply(variables, trunk_BxSxD, method="head_states")[0]
    last_BxD = jnp.take_along_axis(states_BxSxD, (length_B - 1)[:, None, None], axis=1)[:, 0]
    return (last_BxD.astype(jnp.float32) @ kernel_Dx1.astype(jnp.float32))[:, 0]


def reward_outcomes(scores: np.ndarray, median: float) -> np.ndarray:
    """Probabilities that solutions are preferred to one of the median score: sigmoid(score - median), fp32 [n]."""
    return (0.5 + 0.5 * np.tanh((np.asarray(scores, np.float64) - median) / 2)).astype(np.float32)


def agreement(scores: np.ndarray, is_correct: np.ndarray) -> str:
    """How far scores agree with the outcomes that are known, in a sentence: what training on them can teach."""
    known = is_correct != UNKNOWN
    if len(np.unique(is_correct[known])) < 2:
        return "no known outcomes to compare the scores with"
    auc = area_under_curve(scores[known], is_correct[known])
    return f"AUC of the scores against {known.sum():,} known outcomes {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"


def with_outcomes(examples: Examples, outcomes: np.ndarray) -> Examples:
    """Examples with R (fp32 [n], in [0, 1]) as their `rewards`, and `is_correct` = R > 1/2."""
    return dataclasses.replace(examples, is_correct=(outcomes > 0.5).astype(np.int8), rewards=outcomes)


class Solutions:
    """(instruction, output) of each example; every iteration reads them from their file, or raises UserError."""

    def __init__(self, examples: Examples):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Solution]:
        for record in self._examples.records():
            yield (f"{record.instruction}\n{record.input}" if record.input else record.instruction), record.output


def _batches(
    solutions: Iterable[Solution], tokenizer: Tokenizer, batch_size: int, max_length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of like length: their numbers, and int32 [batch_size, power of two] padded with id 0; some at a time."""
    remaining, start = iter(solutions), 0
    while some := list(itertools.islice(remaining, _SORTED_BATCHES * batch_size)):
        tokens = [chat_tokens(*solution, tokenizer, max_length) for solution in some]
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        for rows in np.split(order, range(batch_size, len(order), batch_size)):
            length = _SHORTEST_BUCKET
            while length < len(tokens[rows[-1]]):
                length *= 2
            tokens_BxS = np.full((batch_size, min(length, max_length)), _PAD_ID, np.int32)
            for b, row in enumerate(rows):
                tokens_BxS[b, : len(tokens[row])] = tokens[row]
            yield start + rows, tokens_BxS
        start += len(some)


def _digest(solutions: Iterable[Solution]) -> str:
    state = hashlib.sha256()
    for solution in solutions:
        for text in solution:
            data = text.encode("utf-8")
            state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()
