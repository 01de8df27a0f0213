"""Trains the micro models' SentencePiece tokenizer: `python -m wmtp_jax.microcode.train_tokenizer`.

It has to keep every character: no normalisation, no dummy prefix, runs of spaces as they are, bytes for what it has
never seen. Indentations and the line break are pieces of their own; digits are split, so that constants can be copied.
The one character it cannot keep is U+2581, which SentencePiece uses for the space.
"""

import argparse
import gzip
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from wmtp_jax.errors import UserError
from wmtp_jax.microcode.shipping import MicrocodeError, write_file

VOCABULARY = 1024
WHITESPACE = ("\n", *("\u2581" * width for width in (4, 8, 12, 16)))
DATA = Path("storage/datasets_v2/microcode/pretrain.jsonl.gz")
OUT = Path("storage/models_v2/micro-mtp/tokenizer.model")


def train(texts: Iterable[str]) -> bytes:
    """A SentencePiece model trained on the texts; the same texts give the same bytes.

    Args:
        texts: the training corpus.

    Returns:
        Content of a tokenizer.model: unk 0, bos 1, eos 2, no pad.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        user_defined_symbols=list(WHITESPACE),
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def corpus(path: Path) -> list[str]:
    """Prompt and solution of every record of a data file, as two texts.

    Raises:
        MicrocodeError: the file is missing or no microcode split.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            records = [json.loads(line) for line in lines]
        return [record[field] for record in records for field in ("instruction", "output")]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise MicrocodeError(
            f"cannot read training text from {path} ({error}); expected a split of the microcode data set."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of the process when None.

    Returns:
        Exit code: 0, or 2 after a sentence on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m wmtp_jax.microcode.train_tokenizer", allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=DATA, help=f"a split of the data set (default {DATA})")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the model file to write (default {OUT})")
    chosen = parser.parse_args(arguments)
    try:
        model = train(corpus(chosen.data))
        write_file(chosen.out, model)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{chosen.out}: {VOCABULARY} pieces, {len(model)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
