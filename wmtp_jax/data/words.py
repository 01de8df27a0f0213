"""Token counts of many programs, word by word: programs repeat each other's words, so each is encoded once."""

import re
from collections.abc import Sequence

import sentencepiece

# SentencePiece writes a space like this, and takes this for a space.
SPACE = "\u2581"
# A word has the spaces before it; nothing else of a text is left over.
_WORDS = re.compile(f"[ {SPACE}]*[^ {SPACE}\n]+|\n|[ {SPACE}]+")
# Characters of the words kept, each word counted with an overhead.
_CACHE_SIZE = 1 << 25
_OVERHEAD = 128
# All characters of the basic plane: a model that changes none of them takes texts as they are.
_CHARACTERS = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x10000))))
_PROBES = ("def f(x):\n\n    # a  b \n\ty\n", "\n  x", f" y \n \n z{SPACE} z", "a\n", "")


class WordCounter:
    """Counts the tokens of texts as the sum over their words; the same numbers as encoding each text whole.

    Byte-pair encoding merges two neighbours only into a piece of its vocabulary. Where no piece continues after a
    newline or has a space after a word, as in Llama's tokenizers, words never merge with each other.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor, cache_size: int = _CACHE_SIZE):
        """Takes a model for which `encodes_by_word` is true; remembers words of `cache_size` characters in all."""
        self._model, self._cache_size = model, cache_size
        self._newline_ids = len(model.encode("\n"))
        self._known: dict[str, int] = {}
        self._size = 0

    def count(self, texts: Sequence[str], *, continuation: bool) -> list[int]:
        """The number of tokens of each text; a continuation follows other text, others begin a document."""
        words = [_WORDS.findall(text) for text in texts]
        counts = [0] * len(texts)
        if not continuation:  # the first word may get SentencePiece's dummy prefix
            first = [of_text.pop(0) if of_text else "" for of_text in words]
            counts = map(len, self._model.encode(first, num_threads=1))
        new = list(set().union(*words).difference(self._known))
        encoded = self._model.encode([f"\n{word}" for word in new], num_threads=1)
        self._known.update(zip(new, (len(ids) - self._newline_ids for ids in encoded), strict=True))
        self._size += sum(map(len, new)) + _OVERHEAD * len(new)
        counts = [n + sum(map(self._known.__getitem__, of_text)) for n, of_text in zip(counts, words, strict=True)]
        if self._size > self._cache_size:
            self._known, self._size = {}, 0
        return counts


def encodes_by_word(model: sentencepiece.SentencePieceProcessor) -> bool:
    """Whether a text has the tokens of its words.

    It does in a byte-pair model that knows newlines, in no piece but their own, that has spaces only at the beginning
    of pieces, and that takes texts as they are, without a normaliser.
    """
    if model.normalize(_CHARACTERS).replace(SPACE, " ").lstrip(" ") != _CHARACTERS.replace(SPACE, " "):
        return False
    ids = range(model.vocab_size())
    pieces = [i for i in ids if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))]
    # The score of a byte-pair piece is its rank; that of a unigram piece is the logarithm of a probability.
    if any(model.get_score(i) % 1 for i in pieces):
        return False
    texts = [piece for piece in map(model.id_to_piece, pieces) if piece != "\n"]
    if any("\n" in text or SPACE in text.lstrip(SPACE) for text in texts):
        return False
    if any(map(model.is_unknown, model.encode("\n"))):
        return False
    return WordCounter(model).count(_PROBES, continuation=False) == [len(model.encode(text)) for text in _PROBES]
