"""Counting tokens word by word gives the numbers of encoding whole texts, or is not done."""

import io
import random
import sysconfig
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from wmtp_jax.data import load_tokenizer, word_lengths
from wmtp_jax.data.word_lengths import WordLengths, counts_by_word
from wmtp_jax.storage import resolve

_MICRO = resolve("storage/models_v2/micro-mtp")
_LIBRARY = Path(sysconfig.get_path("stdlib"))
_ALPHABET = st.sampled_from([" ", "  ", "\n", "\t", "\r", "\u2581", "\ue000", "\u0301", "é", "x", "for", "(", "    "])


@pytest.fixture(scope="module")
def micro():
    return load_tokenizer(_MICRO)._model


def _train(**options):
    written = io.BytesIO()
    texts = (file.read_text(encoding="utf-8") for file in (_LIBRARY / "json").glob("*.py"))
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        **{
            "vocab_size": 600,
            "model_type": "bpe",
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
            "minloglevel": 2,
        }
        | options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


@given(st.lists(st.lists(_ALPHABET, max_size=12).map("".join), max_size=4))
def test_any_text_has_the_tokens_of_its_words(micro, texts):
    counted = WordLengths(micro).count(texts, continuation=False, threads=1)
    assert counted == [len(micro.encode(text)) for text in texts]


def test_long_programs_in_a_vocabulary_like_llamas():
    model = _train()
    assert counts_by_word(model)
    texts = [(_LIBRARY / f"{name}.py").read_text(encoding="utf-8") for name in ("ast", "inspect", "typing")]
    assert min(map(len, texts)) > 50_000
    counted = WordLengths(model).count(texts, continuation=False)
    assert counted == [len(model.encode(text)) for text in texts]


def test_continuations_have_the_tokens_of_the_tokenizer():
    tokenizer = load_tokenizer(_MICRO)
    assert tokenizer._word_lengths is not None
    text = (_LIBRARY / "heapq.py").read_text(encoding="utf-8")
    begins = random.Random(0).sample(range(len(text)), 50)
    texts = [text[begin : begin + 300] for begin in begins] + ["", " ", "\n", "  x"]
    expected = [len(tokenizer.encode_continuation(text)) for text in texts]
    assert tokenizer.lengths(texts, continuation=True) == expected


def test_forgetting_changes_nothing(micro, monkeypatch):
    texts = [line for line in (_LIBRARY / "heapq.py").read_text(encoding="utf-8").split("\n\n") if line]
    monkeypatch.setattr(word_lengths, "_REMEMBERED", 2000)
    lengths = WordLengths(micro)
    counted = [lengths.count([text], continuation=False)[0] for text in texts]
    assert counted == [len(micro.encode(text)) for text in texts]
    assert sum(map(len, lengths._known)) < sum(map(len, texts)) / 2


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"user_defined_symbols": ["\n\n"]},
        {"user_defined_symbols": [")\n"]},
        {"split_by_whitespace": False},
        {"byte_fallback": False},
        {"normalization_rule_name": "nmt_nfkc"},
        {"normalization_rule_name": "nfkc"},
        {"normalization_rule_name": "nfkc_cf"},
        {"remove_extra_whitespaces": True},
    ],
    ids=lambda options: ",".join(f"{name}={value!r}" for name, value in options.items()),
)
def test_other_models_encode_whole_texts(options):
    assert not counts_by_word(_train(**options))
