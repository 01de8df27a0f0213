"""Trains the micro models' SentencePiece tokenizer: `python -m wmtp_jax.microcode.train_tokenizer`.

It has to keep every character: no normalisation, no dummy prefix, runs of spaces as they are, bytes for what it has
never seen. Indentations and the line break are pieces of their own; digits are split, so that constants can be copied.
The one character it cannot keep is U+2581, which SentencePiece uses for the space.
"""

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from wmtp_jax import cli
from wmtp_jax.data import read_records
from wmtp_jax.files import write_atomically

VOCABULARY = 1024
WHITESPACE = ("\n", *("\u2581" * width for width in (4, 8, 12, 16)))
DATA = Path("storage/datasets_v2/microcode/pretrain.jsonl.gz")
OUT = Path("storage/models_v2/micro-mtp/tokenizer.model")


def train(texts: Iterable[str]) -> bytes:
    """The content of a tokenizer.model (unk 0, bos 1, eos 2, no pad); the same texts give the same bytes."""
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
        DataError: the file is missing, or a line of it is no record.
    """
    return [text for record in read_records(path) for text in (record.instruction, record.output)]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, see `wmtp_jax.cli`."""
    return cli.run(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    prog = "python -m wmtp_jax.microcode.train_tokenizer"
    examples = (prog, f"{prog} --data records.jsonl --out tokenizer.model")
    parser = cli.ArgumentParser(prog=prog, description="Trains the micro models' tokenizer.", examples=examples)
    add = parser.add_argument
    add("--data", type=Path, default=DATA, help=f"a .jsonl or .jsonl.gz file of records (default {DATA})")
    add("--out", type=Path, default=OUT, help=f"the model file to write (default {OUT})")
    chosen = parser.parse_args(argv)
    model = train(corpus(chosen.data))
    write_atomically(chosen.out, model)
    print(f"{chosen.out}: {VOCABULARY} pieces, {len(model)} bytes")


if __name__ == "__main__":
    sys.exit(main())
