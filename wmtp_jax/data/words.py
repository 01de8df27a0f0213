"""Encodes many programs word by word: programs repeat each other's words, so most words are encoded once."""

import re
from collections.abc import Sequence

import numpy as np
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


class WordEncoder:
    """Encodes texts as the concatenation of their words; the same ids as encoding each text whole.

    Byte-pair encoding merges two neighbours only into a piece of its vocabulary. Where no piece continues after a
    newline or has a space after a word, as in Llama's tokenizers, words never merge with each other.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor, dtype: np.dtype, cache_size: int = _CACHE_SIZE):
        """Takes a model for which `encodes_by_word` is true.

        Args:
            model: A SentencePiece model.
            dtype: Of the ids.
            cache_size: Characters of words to keep.
        """
        self._model, self._dtype = model, dtype
        self._newline_ids = len(model.encode("\n"))
        self._known: dict[str, bytes] = {}
        self._cache_size = self._room = cache_size

    def encode(self, texts: Sequence[str], *, continuation: bool, threads: int = -1) -> list[np.ndarray]:
        """Encodes texts.

        Args:
            texts: The texts.
            continuation: Whether they follow other text; otherwise each begins a document.
            threads: How many encode new words at the same time; -1 is one per core.

        Returns:
            The ids of each, [number of tokens].
        """
        split = [_WORDS.findall(text) for text in texts]
        first = [b""] * len(texts)
        if not continuation:  # the first word may get SentencePiece's dummy prefix
            words = [words.pop(0) if words else "" for words in split]
            first = [self._bytes(ids) for ids in self._model.encode(words, num_threads=threads)]
        new = set().union(*split).difference(self._known)
        encoded = self._model.encode([f"\n{word}" for word in new], num_threads=threads)
        self._known.update(zip(new, (self._bytes(ids[self._newline_ids :]) for ids in encoded), strict=True))
        self._room -= sum(map(len, new)) + _OVERHEAD * len(new)
        known = self._known.__getitem__
        ids = [
            np.frombuffer(b"".join((begin, *map(known, words))), self._dtype)
            for begin, words in zip(first, split, strict=True)
        ]
        if self._room < 0:
            self._known.clear()
            self._room = self._cache_size
        return ids

    def _bytes(self, ids: Sequence[int]) -> bytes:
        return np.array(ids, self._dtype).tobytes()


def encodes_by_word(model: sentencepiece.SentencePieceProcessor) -> bool:
    """Whether a text has the tokens of its words.

    Args:
        model: A SentencePiece model.

    Returns:
        True for a byte-pair model that knows newlines, in no piece but their own, that has spaces only at the
        beginning of pieces, and that takes texts as they are, without a normaliser.
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
