"""Encodes many programs word by word: programs repeat each other's words, so each different word is encoded once."""

import re
from collections.abc import Sequence

import numpy as np
import sentencepiece

# SentencePiece writes a space like this, and takes this for a space.
SPACE = "\u2581"
# A word has the spaces before it; nothing else of a text is left over.
_WORDS = re.compile(f"[ {SPACE}]*[^ {SPACE}\n]+|\n|[ {SPACE}]+")
_TEXTS_AT_ONCE = 64
# Bytes of memory that known words may take, and what a word takes beside its characters and ids.
_CACHE_SIZE = 1 << 25
_OVERHEAD = 128
# All characters of the basic plane: a model that changes none of them takes texts as they are.
_CHARACTERS = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x10000))))
_PROBES = ("def f(x):\n\n    # a  b \n\ty\n", "\n  x", f" y \n \n z{SPACE} z", "a\n", "")


class WordEncoder:
    """Encodes texts as the concatenation of their words; the same ids as encoding each text whole.

    Byte-pair encoding merges two neighbours only into a piece of its vocabulary. Where no piece continues after a
    newline or has a space after a word, as in Llama's tokenizers, words never merge with each other.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor, dtype: np.dtype, cache_size: int = _CACHE_SIZE):
        """Takes a model for which `encodes_by_word` is true, and the ids' type; remembers so many bytes of words."""
        self._model, self._dtype, self._cache_size = model, dtype, cache_size
        self._newline_ids = len(model.encode("\n"))
        self._known: dict[str, bytes] = {}
        self._size = 0

    def encode(self, texts: Sequence[str], *, continuation: bool) -> list[np.ndarray]:
        """The ids of each text, [number of tokens]; a continuation follows other text, others begin a document."""
        found = []
        for begin in range(0, len(texts), _TEXTS_AT_ONCE):
            words = [_WORDS.findall(text) for text in texts[begin : begin + _TEXTS_AT_ONCE]]
            first = [b""] * len(words)
            if not continuation:  # the first word may get SentencePiece's dummy prefix
                first = map(self._to_bytes, self._model.encode([some.pop(0) if some else "" for some in words]))
            self._learn(set().union(*words).difference(self._known))
            for ids, some in zip(first, words, strict=True):
                found.append(np.frombuffer(ids + b"".join(map(self._known.__getitem__, some)), self._dtype))
            if self._size > self._cache_size:
                self._known, self._size = {}, 0
        return found

    def _learn(self, words: set[str]) -> None:
        encoded = self._model.encode([f"\n{word}" for word in words], num_threads=1)
        for word, ids in zip(words, encoded, strict=True):
            self._known[word] = self._to_bytes(ids[self._newline_ids :])
            self._size += len(word) + len(self._known[word]) + _OVERHEAD

    def _to_bytes(self, ids: list[int]) -> bytes:
        return np.array(ids, self._dtype).tobytes()


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
    encoded = WordEncoder(model, np.dtype(np.uint32)).encode(_PROBES, continuation=False)
    return [ids.tolist() for ids in encoded] == [model.encode(text) for text in _PROBES]
