"""Finds problems whose text occurs in a test benchmark, by the words they have in common."""

import collections
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wmtp_jax.storage.assets import StorageError
from wmtp_jax.storage.datasets.recipes import Recipe, Settings
from wmtp_jax.storage.datasets.sources import Chunk, expected_form, make_chunks, read_chunk

# Runs of this many words are compared (as in the overlap analysis of Brown et al. 2020, arXiv 2005.14165, appendix C);
# the share is of the benchmark problem's runs, since whole sentences about input and output recur in contest problems.
_RUN, _SHARE = 13, 0.5
_WORD = re.compile(r"\w+")
_TEXT_FIELDS = ("description", "text", "prompt", "instruction")
_ANY_BENCHMARK = Recipe("a benchmark", "", "", (), (), task=None, columns=lambda split, settings: _TEXT_FIELDS)


class BenchmarkTexts:
    """Texts of test problems, to be recognised in others."""

    def __init__(self, texts: Iterable[str]):
        self._runs_of: list[int] = []
        self._problems_with: dict[bytes, list[int]] = collections.defaultdict(list)
        for runs in filter(None, map(_runs, texts)):
            for run in runs:
                self._problems_with[run].append(len(self._runs_of))
            self._runs_of.append(len(runs))

    def contains(self, text: str) -> bool:
        """Whether at least half of the runs of 13 words of one of the test problems occur in a text.

        A test problem of fewer words occurs when the text consists of the same ones.
        """
        shared = collections.Counter(i for run in _runs(text) for i in self._problems_with.get(run, ()))
        return any(count >= _SHARE * self._runs_of[i] for i, count in shared.items())


def other_split_texts(chunks: Sequence[Chunk], recipe: Recipe, settings: Settings) -> Iterator[str]:
    """The text of each problem of a data set's other splits than train."""
    for chunk in chunks:
        if chunk.split != "train":
            for where, row in read_chunk(chunk, recipe, settings):
                with expected_form(where, recipe):
                    task = recipe.task(row, chunk.split, where, settings)
                if task.split != "train":
                    yield task.problem.instruction


def benchmark_texts(path: Path) -> Iterator[str]:
    """The longest of the usual text fields of each problem of a benchmark file."""
    for chunk in make_chunks([path], _ANY_BENCHMARK):
        for where, row in read_chunk(chunk, _ANY_BENCHMARK, None):
            texts = [text for name in _TEXT_FIELDS if isinstance(text := row.get(name), str)]
            if not texts:
                raise StorageError(f"{where}: has no text; expected it in one of {', '.join(_TEXT_FIELDS)}")
            yield max(texts, key=len)


def _runs(text: str) -> set[bytes]:
    words = _WORD.findall(text.lower())
    if not words:
        return set()
    starts = range(max(len(words) - _RUN + 1, 1))
    return {hashlib.blake2b(" ".join(words[i : i + _RUN]).encode(), digest_size=8).digest() for i in starts}
