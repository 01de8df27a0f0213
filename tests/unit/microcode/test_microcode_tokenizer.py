"""The micro models' tokenizer keeps every character and is reproducible."""

import gzip
import json

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wmtp_jax.errors import UserError
from wmtp_jax.microcode import train_tokenizer
from wmtp_jax.microcode.train_tokenizer import DATA, OUT, VOCABULARY, corpus, main, train


@pytest.fixture(scope="module")
def tokenizer(root):
    return sentencepiece.SentencePieceProcessor(model_file=str(root / OUT))


def test_ids_of_the_special_pieces(tokenizer):
    assert tokenizer.vocab_size() == VOCABULARY
    assert (tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()) == (0, 1, 2, -1)


def test_every_record_survives(root, tokenizer):
    for path in sorted((root / DATA.parent).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        texts = sorted({record[field] for record in records for field in ("instruction", "output")})
        assert tokenizer.decode(tokenizer.encode(texts)) == texts


# U+2581 is SentencePiece's own sign for the space; surrogates are no text.
@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"])))
@example(" ")
@example("  x")
@example("x  ")
@example("\t\tx = 1\r\n")
@example("a   b      c")
@example("\n\n    \n\n" + " " * 37)
@example("é ñ 中文 🙂")
@example("\x00\x7f1234567")
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_indentation_is_one_piece_and_digits_are_split(tokenizer):
    assert tokenizer.encode("    return x\n", out_type=str) == ["▁▁▁▁", "return", "▁x", "\n"]
    assert tokenizer.encode("        12", out_type=str) == ["▁▁▁▁▁▁▁▁", "1", "2"]


def test_training_reproduces_the_shipped_pieces(root, tokenizer):
    """The bytes also hold the trainer's options, which differ between releases of SentencePiece; the pieces count."""
    fresh = sentencepiece.SentencePieceProcessor(model_proto=train(corpus(root / DATA)))
    for index in range(VOCABULARY):
        assert fresh.id_to_piece(index) == tokenizer.id_to_piece(index)
        assert fresh.get_score(index) == tokenizer.get_score(index)


def test_a_wrong_data_file_is_named(tmp_path, capsys):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"data\.jsonl\.gz:1: the gzip stream is damaged"):
        corpus(path)
    assert main(["--data", str(path), "--out", str(tmp_path / "tokenizer.model")]) == 2
    assert "data.jsonl.gz:1: the gzip stream is damaged" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl.gz"]


def test_a_place_that_cannot_be_written_is_named(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_tokenizer, "train", lambda texts: b"model")
    (tmp_path / "file").write_text("")
    assert main(["--data", str(root / DATA), "--out", str(tmp_path / "file" / "tokenizer.model")]) == 2
    assert "Not a directory" in capsys.readouterr().err
