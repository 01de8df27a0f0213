"""A tokenizer neither adds nor loses a character, with and without SentencePiece's dummy prefix."""

import hashlib
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import DataError, load_tokenizer

CODE_TEXT = st.text(alphabet="ab (x):=\n\t#'é\u4e2d\U0001f600\x00\u2581<s>/", min_size=1, max_size=40)
# U+2581 is SentencePiece's own letter for a space, so no SentencePiece model can keep it.
KEPT_TEXT = CODE_TEXT.map(lambda text: text.replace("\u2581", "_"))


@settings(deadline=None)
@given(prompt=KEPT_TEXT, response=KEPT_TEXT)
def test_prompt_and_continuation_come_back_exactly(either, prompt, response):
    prompt_ids = [either.bos_id, *either.encode(prompt)]
    new_ids = either.encode_continuation(response)
    assert either.decode([*prompt_ids, *new_ids, either.eos_id]) == prompt + response
    assert either.decode_continuation(prompt_ids, [*new_ids, either.eos_id]) == response


@settings(deadline=None)
@given(text=CODE_TEXT)
def test_no_text_makes_control_tokens(either, text):
    ids = either.encode(text) + either.encode_continuation(text)
    assert not {either.bos_id, either.eos_id} & set(ids)


def test_the_dummy_prefix_is_what_encode_continuation_avoids(llama_tokenizer):
    prompt_ids = llama_tokenizer.encode("f(")
    assert llama_tokenizer.decode(prompt_ids + llama_tokenizer.encode("x)")) == "f( x)"
    assert llama_tokenizer.decode(prompt_ids + llama_tokenizer.encode_continuation("x)")) == "f(x)"


def test_decoding_new_tokens_alone_would_lose_the_indentation(llama_tokenizer):
    prompt_ids = llama_tokenizer.encode("def f():\n")
    new_ids = llama_tokenizer.encode_continuation("    return 1\n")
    assert llama_tokenizer.decode(new_ids) == "   return 1\n"
    assert llama_tokenizer.decode_continuation(prompt_ids, new_ids) == "    return 1\n"


def test_a_character_cut_between_prompt_and_continuation_is_new(tokenizer):
    ids = tokenizer.encode("a\U0001f600b")
    assert len(ids) == 6  # a, four bytes, b
    texts = [tokenizer.decode_continuation(ids[:cut], ids[cut:]) for cut in range(7)]
    assert texts == ["a\U0001f600b", *["\U0001f600b"] * 4, "b", ""]


def test_ids_and_digest(train_tokenizer):
    path = train_tokenizer()
    tokenizer = load_tokenizer(path, vocab_size=340)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (1, 2, 340)
    assert tokenizer.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["tokenizer.model", "tokenizer/tokenizer.model"])
def test_a_directory_is_searched(tmp_path, tokenizer, place):
    target = tmp_path / place
    target.parent.mkdir(exist_ok=True)
    shutil.copy(tokenizer.path, target)
    assert load_tokenizer(tmp_path).digest == tokenizer.digest


def test_a_missing_tokenizer(tmp_path):
    with pytest.raises(DataError, match=r"none: the tokenizer does not exist; expected a SentencePiece file"):
        load_tokenizer(tmp_path / "none")
    with pytest.raises(DataError, match=r"no tokenizer\.model in this directory"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"junk", "not a SentencePiece model, or a damaged one"),
        (b"\x00" * 100, "not a SentencePiece model, or a damaged one"),
        (b'{"model": {}}', "not a SentencePiece model, or a damaged one"),
        (b"", "the file is empty"),
        (None, "not a SentencePiece model, or a damaged one"),
    ],
)
def test_another_kind_of_file_or_a_truncated_one(tmp_path, tokenizer, content, said):
    whole = tokenizer.path.read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=rf"tokenizer\.model: {said}"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("vocab_size", [339, 341, 32000])
def test_another_vocabulary_size(tokenizer, vocab_size):
    with pytest.raises(DataError, match=f"has 340 pieces but the model's vocab_size is {vocab_size}"):
        load_tokenizer(tokenizer.path, vocab_size=vocab_size)


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_tokenizer_that_cannot_begin_or_end(train_tokenizer, name):
    with pytest.raises(DataError, match=f"the tokenizer has no {name.upper()} token"):
        load_tokenizer(train_tokenizer(**{f"{name}_id": -1}))


@pytest.mark.parametrize("options", [{"remove_extra_whitespaces": True}, {"normalization_rule_name": "nmt_nfkc"}])
def test_a_tokenizer_that_loses_whitespace(train_tokenizer, options):
    path = train_tokenizer(**options)
    with pytest.raises(DataError, match=f"{path}: the tokenizer loses whitespace"):
        load_tokenizer(path)
    assert load_tokenizer(path, for_code=False).vocab_size == 340


def test_the_story_model_is_not_for_code(shared_data):
    with pytest.raises(DataError, match="loses whitespace"):
        load_tokenizer(shared_data / "stories260k", vocab_size=512)
    tokenizer = load_tokenizer(shared_data / "stories260k", vocab_size=512, for_code=False)
    assert (
        tokenizer.decode_continuation(tokenizer.encode("Once upon"), tokenizer.encode_continuation(" a time"))
        == " a time"
    )
