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
        """Takes a model for which `encodes_by_word` is true, the ids' type, and how many characters to remember."""
        self._model, self._dtype, self._cache_size = model, dtype, cache_size
        self._known = _Words(model, dtype)

    def encode(self, texts: Sequence[str], *, continuation: bool) -> list[np.ndarray]:
        """The ids of each text, [number of tokens]; a continuation follows other text, others begin a document."""
        found = []
        for text in texts:
            words, begin = _WORDS.findall(text), b""
            if words and not continuation:  # the first word may get SentencePiece's dummy prefix
                begin = np.array(self._model.encode(words.pop(0)), self._dtype).tobytes()
            ids = begin + b"".join(map(self._known.__getitem__, words))
            found.append(np.frombuffer(ids, self._dtype))
        if self._known.size > self._cache_size:
            self._known = _Words(self._model, self._dtype)
        return found


class _Words(dict[str, bytes]):
    """Word -> its ids; a word that is not there is encoded. `size` is that of the words in characters."""

    def __init__(self, model: sentencepiece.SentencePieceProcessor, dtype: np.dtype):
        super().__init__()
        self._model, self._dtype, self.size = model, dtype, 0
        self._newline_ids = len(model.encode("\n"))

    def __missing__(self, word: str) -> bytes:
        ids = self._model.encode(f"\n{word}")[self._newline_ids :]
        self[word] = np.array(ids, self._dtype).tobytes()
        self.size += len(word) + _OVERHEAD
        return self[word]


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
