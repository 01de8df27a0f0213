"""SentencePiece tokenizers that neither add nor lose a character of a program."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.words import SPACE, WordCounter, encodes_by_word
from wmtp_jax.errors import shown

# What a tokenizer for code has to keep: indentation, tabs, repeated spaces, blank lines, spaces at either end.
_PROMPT_PROBE = "def f(x):\n    # a  b\n"
_COMPLETION_PROBES = ("    x\n\ty  z", "    return x\n", " y", "y", "\n\n    y \n", "\tif x:\n\t\ty")
# Characters that a vocabulary hardly joins to what follows; the first that works is taken.
_SENTINELS = ("\ue000", "\n", "\u263a")
_REPLACEMENT = "\ufffd"


class Tokenizer:
    """A SentencePiece model that encodes prompts and continuations apart and decodes them together.

    Attributes:
        path: The file it was read from.
        vocab_size: Number of pieces.
        bos_id: Id of the token that begins a document.
        eos_id: Id of the token that ends one.
        digest: SHA-256 of the file, in hexadecimal.
        dtype: The smallest type that holds every id: uint16 or uint32.
    """

    def __init__(self, path: Path, serialized: bytes):
        """Takes the bytes of a SentencePiece model; use `load_tokenizer`, which checks them."""
        self._model = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        self.path = path
        self.digest = hashlib.sha256(serialized).hexdigest()
        self.vocab_size = self._model.vocab_size()
        self.bos_id = self._model.bos_id()
        self.eos_id = self._model.eos_id()
        self._adds_space = self._model.encode("x", out_type=str)[0].startswith("\u2581")
        self._sentinels = [(text, self._model.encode(text)) for text in _SENTINELS]
        self.dtype = np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def __reduce__(self):
        """Goes to another process as the model's bytes."""
        return Tokenizer, (self.path, self._model.serialized_model_proto())

    def encode(self, text: str) -> list[int]:
        """The ids of text that begins a document, without BOS."""
        return self._model.encode(text)

    def encode_continuation(self, text: str) -> list[int]:
        """The ids of text that follows other text: appended to those of a prompt, they decode to prompt + text.

        A model with SentencePiece's dummy prefix (Llama-2's) puts a space before whatever it encodes. Here the text
        is encoded behind a sentinel, which takes that space, and the sentinel's ids are cut off.

        Raises:
            DataError: Every sentinel was joined to the text (no known tokenizer does it).
        """
        if not self._adds_space:
            return self._model.encode(text)
        for sentinel, sentinel_ids in self._sentinels:
            ids = self._model.encode(sentinel + text)
            if ids[: len(sentinel_ids)] == sentinel_ids:
                return ids[len(sentinel_ids) :]
        raise DataError(
            f"{self.path}: the tokenizer cannot encode {text[:20]!r} as a continuation without a leading space; "
            "expected a SentencePiece model without dummy prefix or with byte fallback, as Llama's."
        )

    def encode_many(self, texts: Sequence[str], *, continuation: bool = False) -> list[np.ndarray]:
        """What `encode` or `encode_continuation` makes of each text: `dtype` [number of tokens]."""
        encode = self.encode_continuation if continuation else self.encode
        return [np.array(encode(text), self.dtype) for text in texts]

    def lengths(self, texts: Sequence[str], *, continuation: bool = False) -> list[int]:
        """How many tokens `encode_many` makes of each text, counted word by word where the model allows it."""
        if self._words is not None:
            return self._words.count(texts, continuation=continuation)
        return list(map(len, self.encode_many(texts, continuation=continuation)))

    @functools.cached_property
    def _words(self) -> WordCounter | None:
        return WordCounter(self._model) if encodes_by_word(self._model) else None

    def spans(self, ids: Sequence[int], text: str) -> np.ndarray:
        """Which characters of a text each of its tokens covers.

        Args:
            ids: [number of tokens], those of `encode_continuation`.
            text: The text.

        Returns:
            int64 [number of tokens, 2], begin and end in Unicode code points. Each byte of a character that the
            vocabulary does not have covers the whole character.

        Raises:
            DataError: The tokens do not spell the text: the model has a normaliser or lacks a character.
        """
        ids = np.asarray(ids, np.int64)
        pieces, starts = self._pieces
        if b"".join(pieces[i] for i in ids) != text.replace(SPACE, " ").encode():
            raise DataError(
                f"{self.path}: the tokens do not spell {shown(text)}, so weights of its characters cannot be given to "
                "tokens; expected a tokenizer with byte fallback and without normalization."
            )
        end = np.cumsum(starts[ids])
        return np.stack([end - np.maximum(starts[ids], 1), end], axis=1)

    @functools.cached_property
    def _pieces(self) -> tuple[list[bytes], np.ndarray]:
        """The UTF-8 of each piece; int64 [vocab_size], how many characters begin in it."""
        pieces, starts = [], np.zeros(self.vocab_size, np.int64)
        for i, piece in enumerate(map(self._model.id_to_piece, range(self.vocab_size))):
            if self._model.is_byte(i):
                pieces.append(bytes([int(piece[3:5], 16)]))  # <0xE2>
                starts[i] = pieces[i][0] & 0xC0 != 0x80
            else:
                visible = not (self._model.is_control(i) or self._model.is_unknown(i))
                pieces.append(piece.replace(SPACE, " ").encode() if visible else b"")
                starts[i] = len(piece) if visible else 0
        return pieces, starts

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a document, from its beginning on; BOS, EOS and other control tokens leave no text.

        For new tokens alone use `decode_continuation`: SentencePiece drops the first space of what it decodes.
        """
        return self._model.decode([int(i) for i in ids])

    def decode_continuation(self, prompt_ids: Sequence[int], new_ids: Sequence[int]) -> str:
        """The text that new ids add to that of a prompt's ids, leading spaces included.

        When the prompt ends inside a UTF-8 character, the finished character counts as new.
        """
        prompt = self.decode(prompt_ids)
        both = self.decode([*prompt_ids, *new_ids])
        if not both.startswith(prompt):
            prompt = prompt.rstrip(_REPLACEMENT)
        return both[len(prompt) :]


def load_tokenizer(path: str | Path, *, vocab_size: int | None = None, for_code: bool = True) -> Tokenizer:
    """Reads and checks a SentencePiece model.

    Args:
        path: The model file, or a directory that holds `tokenizer.model` or `tokenizer/tokenizer.model`.
        vocab_size: The language model's vocabulary size, which must be the tokenizer's; None does not check.
        for_code: Whether the tokenizer has to keep whitespace (indentation, tabs, repeated spaces).

    Returns:
        The tokenizer.

    Raises:
        DataError: The file is missing, is no SentencePiece model, has no BOS or EOS, has another vocabulary size, or
            loses whitespace.
    """
    file = _find(Path(path))
    serialized = file.read_bytes()
    try:
        # SentencePiece takes an empty string for "no model given" and fails only later.
        tokenizer = Tokenizer(file, serialized) if serialized else None
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{file}: not a SentencePiece model, or a damaged one; expected the tokenizer.model of a Llama."
        ) from error
    if tokenizer is None:
        raise DataError(f"{file}: the file is empty; expected the tokenizer.model of a Llama.")
    for name, token_id in (("BOS", tokenizer.bos_id), ("EOS", tokenizer.eos_id)):
        if token_id < 0:
            raise DataError(f"{file}: the tokenizer has no {name} token; train it with one (SentencePiece's default).")
    if vocab_size is not None and tokenizer.vocab_size != vocab_size:
        raise DataError(
            f"{file}: the tokenizer has {tokenizer.vocab_size} pieces but the model's vocab_size is {vocab_size}; "
            "expected them equal, so use the tokenizer that belongs to the model."
        )
    if for_code:
        _check_whitespace(tokenizer)
    return tokenizer


def _find(path: Path) -> Path:
    for file in (path, path / "tokenizer.model", path / "tokenizer" / "tokenizer.model"):
        if file.is_file():
            return file
    if path.is_dir():
        raise DataError(f"{path}: no tokenizer.model in this directory (nor in tokenizer/); put the model's own there.")
    raise DataError(f"{path}: the tokenizer does not exist; expected a SentencePiece file or a directory with one.")


def _check_whitespace(tokenizer: Tokenizer) -> None:
    prompt_ids = [tokenizer.bos_id, *tokenizer.encode(_PROMPT_PROBE)]
    for probe in _COMPLETION_PROBES:
        ids = tokenizer.encode_continuation(probe)
        decoded = tokenizer.decode([*prompt_ids, *ids])
        if decoded != _PROMPT_PROBE + probe or tokenizer.decode_continuation(prompt_ids, ids) != probe:
            raise DataError(
                f"{tokenizer.path}: the tokenizer loses whitespace ({_PROMPT_PROBE + probe!r} comes back as "
                f"{decoded!r}), so it cannot write indented code; expected one trained without whitespace removal "
                "(remove_extra_whitespaces=false, normalization identity)."
            )
