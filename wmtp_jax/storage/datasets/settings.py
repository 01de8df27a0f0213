"""What a data set is set up with."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from wmtp_jax.data import Tokenizer, load_tokenizer

# Records of a small version, by split.
SMALL = {"train": 100, "valid": 32, "test": 32}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes that come out, beside the source files. Goes to the workers.

    Attributes:
        tokenizer_path: the SentencePiece model whose tokens are counted.
        tokenizer_digest: its SHA-256.
        max_tokens: largest number of tokens of instruction, input and output together; 0 keeps all.
        python_2: whether solutions in Python 2 are taken too (CodeContests).
        small: whether only the first solution of each label of the first problems is taken, see `SMALL`.
        deduplicate: whether a duplicate solution of a problem is left out, and one labelled both ways altogether.
        decontaminate: whether training problems whose text occurs in a test benchmark are left out.
        reexecute: whether each solution is run, and kept only if its label is reproduced.
        timeout_s: for that: seconds per program.
    """

    tokenizer_path: Path
    tokenizer_digest: str
    max_tokens: int = 2048
    python_2: bool = False
    small: bool = False
    deduplicate: bool = False
    decontaminate: bool = False
    reexecute: bool = False
    timeout_s: float = 10.0

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read once per process."""
        return _tokenizer(self.tokenizer_path, self.tokenizer_digest)

    def as_json(self) -> dict[str, Any]:
        """The settings without those that decide nothing."""
        fields = dataclasses.asdict(self)
        fields.pop("tokenizer_path")
        if not self.reexecute:
            fields.pop("timeout_s")
        return fields


@functools.cache
def _tokenizer(path: Path, digest: str) -> Tokenizer:
    # By digest: each chunk brings its own copy of the settings to a worker.
    return load_tokenizer(path)
