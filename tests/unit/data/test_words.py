"""Counting word by word gives the numbers of encoding whole texts, or is not done."""

import random
import sysconfig
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import load_tokenizer
from wmtp_jax.data.words import WordCounter, encodes_by_word
from wmtp_jax.storage import resolve

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_ALPHABET = st.sampled_from([" ", "  ", "\n", "\t", "\r", "\u2581", "\ue000", "\u0301", "é", "x", "for", "(", "    "])
_TEXTS = [(_LIBRARY / f"{name}.py").read_text(encoding="utf-8") for name in ("heapq", "inspect", "typing")]


@pytest.fixture(scope="module")
def code_model(train_tokenizer):
    """Trains on the standard library's code, in a vocabulary like Llama's."""

    def train(**options):
        lines = [line for file in (_LIBRARY / "json").glob("*.py") for line in file.open(encoding="utf-8")]
        return train_tokenizer(lines, **{"vocab_size": 600, "add_dummy_prefix": True, **options})

    return train


@pytest.fixture(scope="module", params=["micro", "llama", "unigram", "mistral"])
def any_tokenizer(request, code_model):
    """By word: ours and Llama-2's kind; whole texts: another model type. Mistral's has 32,000 pieces."""
    if request.param == "micro":
        return load_tokenizer(resolve("storage/models_v2/micro-mtp"))
    if request.param == "mistral":
        return request.getfixturevalue("mistral_tokenizer")
    return load_tokenizer(code_model(model_type="unigram" if request.param == "unigram" else "bpe"))


def assert_same(tokenizer, texts):
    for continuation, encode in ((False, tokenizer.encode), (True, tokenizer.encode_continuation)):
        found = tokenizer.encode_many(texts, continuation=continuation)
        assert [ids.tolist() for ids in found] == [encode(text) for text in texts]
        assert {ids.dtype for ids in found} <= {tokenizer.dtype}
        assert tokenizer.lengths(texts, continuation=continuation) == [len(ids) for ids in found]


@settings(deadline=None)
@given(st.lists(st.lists(_ALPHABET, max_size=12).map("".join), max_size=4))
def test_any_texts_have_the_ids_of_encoding_each(any_tokenizer, texts):
    assert_same(any_tokenizer, texts)


def test_programs_and_their_parts_have_the_ids_of_encoding_each(any_tokenizer):
    begins = random.Random(0).sample(range(len(_TEXTS[0])), 50)
    assert_same(any_tokenizer, [*_TEXTS, *(_TEXTS[0][begin : begin + 300] for begin in begins)])


def test_forgetting_changes_nothing():
    model = sentencepiece.SentencePieceProcessor(str(resolve("storage/models_v2/micro-mtp") / "tokenizer.model"))
    counter = WordCounter(model, cache_size=2000)
    for text in _TEXTS[0].split("\n\n"):
        assert counter.count([text], continuation=False) == [len(model.encode(text))]


def test_the_kinds_that_are_encoded_by_word(code_model):
    models = [code_model(), code_model(add_dummy_prefix=False), resolve("storage/models_v2/micro-mtp/tokenizer.model")]
    assert all(encodes_by_word(sentencepiece.SentencePieceProcessor(str(model))) for model in models)


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
def test_other_models_encode_whole_texts(code_model, options):
    assert not encodes_by_word(sentencepiece.SentencePieceProcessor(str(code_model(**options))))
