"""Token counts of many programs, word by word: programs repeat each other's words, so most are encoded once."""

import re
from collections.abc import Sequence

import sentencepiece

# SentencePiece writes a space like this, and takes this for a space.
_SPACE = "\u2581"
# A word has the spaces before it; nothing else of a text is left over.
_WORDS = re.compile(f"[ {_SPACE}]*[^ {_SPACE}\n]+|\n|[ {_SPACE}]+")
# Characters of remembered words, and what a word costs besides.
_REMEMBERED = 1 << 25
_OVERHEAD = 128
# All characters of the basic plane: a model that changes none of them takes texts as they are.
_CHARACTERS = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x10000))))
_PROBES = ("def f(x):\n\n    # a  b \n\ty\n", "\n  x", f" y \n \n z{_SPACE} z", "a\n", "")


class WordLengths:
    """Counts the tokens of texts as the sum over their words; the same numbers as encoding each text whole.

    Byte-pair encoding joins two neighbours only into a piece of its vocabulary. Where no piece goes on after a newline
    or with a space after a word, as in Llama's tokenizers, words never touch each other.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor):
        """Takes a model for which `counts_by_word` is true."""
        self._model = model
        self._before = len(model.encode("\n"))
        self._known: dict[str, int] = {}
        self._room = _REMEMBERED

    def count(self, texts: Sequence[str], *, continuation: bool, threads: int = -1) -> list[int]:
        """Counts tokens.

        Args:
            texts: The texts.
            continuation: Whether they follow other text; otherwise each begins a document.
            threads: How many encode at the same time; -1 is one per core.

        Returns:
            The number of tokens of each.
        """
        split = [_WORDS.findall(text) for text in texts]
        counts = [0] * len(texts)
        if not continuation:  # the first word may have a space put before it
            first = [words.pop(0) if words else "" for words in split]
            counts = [len(ids) for ids in self._model.encode(first, num_threads=threads)]
        new = set().union(*split).difference(self._known)
        encoded = self._model.encode([f"\n{word}" for word in new], num_threads=threads)
        self._known.update(zip(new, (len(ids) - self._before for ids in encoded), strict=True))
        self._room -= sum(map(len, new)) + _OVERHEAD * len(new)
        counts = [n + sum(map(self._known.__getitem__, words)) for n, words in zip(counts, split, strict=True)]
        if self._room < 0:
            self._known.clear()
            self._room = _REMEMBERED
        return counts


def counts_by_word(model: sentencepiece.SentencePieceProcessor) -> bool:
    """Whether a text has as many tokens as its words have together.

    Args:
        model: A SentencePiece model.

    Returns:
        True for a byte-pair model that knows newlines, in no piece but their own, that has spaces only at the
        beginning of pieces, and that takes texts as they are, without a normaliser.
    """
    if model.normalize(_CHARACTERS).replace(_SPACE, " ").lstrip(" ") != _CHARACTERS.replace(_SPACE, " "):
        return False
    ids = range(model.vocab_size())
    pieces = [i for i in ids if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))]
    # The score of a byte-pair piece is its rank; that of a unigram piece is the logarithm of a probability.
    if any(model.get_score(i) % 1 for i in pieces):
        return False
    texts = [piece for piece in map(model.id_to_piece, pieces) if piece != "\n"]
    if any("\n" in text or _SPACE in text.lstrip(_SPACE) for text in texts):
        return False
    if any(map(model.is_unknown, model.encode("\n"))):
        return False
    return WordLengths(model).count(_PROBES, continuation=False) == [len(model.encode(text)) for text in _PROBES]
