"""Finds problems whose text occurs in a test benchmark, by the words they have in common."""

import collections
import hashlib
import re
from collections.abc import Iterable

# Runs of so many words are compared (as in the overlap analysis of Brown et al. 2020, arXiv 2005.14165, appendix C);
# the share is of the benchmark problem's runs, since whole sentences about input and output recur in contest problems.
_RUN, _SHARE = 13, 0.5
_WORD = re.compile(r"\w+")


class Benchmark:
    """Texts of test problems, to be recognised in others."""

    def __init__(self, texts: Iterable[str]):
        """Takes the test problems."""
        self._runs_of: list[int] = []
        self._problems_with: dict[bytes, list[int]] = collections.defaultdict(list)
        for text in texts:
            runs = _runs(text)
            if runs:
                for run in runs:
                    self._problems_with[run].append(len(self._runs_of))
                self._runs_of.append(len(runs))

    def __len__(self) -> int:
        """The number of problems."""
        return len(self._runs_of)

    def contains(self, text: str) -> bool:
        """Whether at least half of the runs of 13 words of one of the test problems occur in a text.

        A test problem of fewer words occurs when the text consists of the same ones.
        """
        shared = collections.Counter(i for run in _runs(text) for i in self._problems_with.get(run, ()))
        return any(count >= _SHARE * self._runs_of[i] for i, count in shared.items())


def _runs(text: str) -> set[bytes]:
    words = _WORD.findall(text.lower())
    if not words:
        return set()
    starts = range(max(len(words) - _RUN + 1, 1))
    return {hashlib.blake2b(" ".join(words[i : i + _RUN]).encode(), digest_size=8).digest() for i in starts}
