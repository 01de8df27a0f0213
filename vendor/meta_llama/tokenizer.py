"""SentencePiece tokenizer with LLaMA's special tokens."""

from pathlib import Path

from sentencepiece import SentencePieceProcessor


class Tokenizer:
    """Text to ids and back, as the SentencePiece model file says."""

    def __init__(self, model_path: str | Path):
        self.processor = SentencePieceProcessor(model_file=str(model_path))
        self.n_words: int = self.processor.vocab_size()
        self.bos_id: int = self.processor.bos_id()
        self.eos_id: int = self.processor.eos_id()
        self.pad_id: int = self.processor.pad_id()

    def encode(self, text: str, *, bos: bool, eos: bool) -> list[int]:
        """Ids of the text, with BOS before and EOS after it on request."""
        ids = self.processor.encode(text)
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: list[int]) -> str:
        """Text of the ids; special tokens give none."""
        return self.processor.decode(ids)
