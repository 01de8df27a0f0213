"""Stop rules cut by text; mistakes are one sentence."""

import re

import jax
import jax.numpy as jnp
import pytest

from wmtp_jax.decoding import DecodingError, Generation, generate, generate_text
from wmtp_jax.decoding.text import cut
from wmtp_jax.model import ModelConfig, init_params


class Pieces:
    """A tokenizer of eight pieces; like SentencePiece it drops the first space of what it decodes."""

    pieces = (" ", "a", "b\n", "  ", "de", "f ", "\n", "")
    eos_id = 7

    def decode_continuation(self, prompt_ids, new_ids):
        decode = lambda ids: "".join(self.pieces[i] for i in ids).removeprefix(" ")
        return decode([*prompt_ids, *new_ids])[len(decode(prompt_ids)) :]


def cut_after_a(*tokens, stop, stop_reason="length"):
    """A continuation of "a", cut."""
    heads = [1 + i % 2 for i in range(len(tokens))]
    return cut(Pieces(), [1], Generation(list(tokens), heads, stop_reason), re.compile(stop))


def test_leading_whitespace_survives():
    result = cut_after_a(3, 1, 7, stop="zz", stop_reason="eos")
    assert (result.text, result.tokens, result.stop_reason) == ("  a", [3, 1, 7], "eos")


def test_a_match_over_several_tokens_cuts_text_before_and_tokens_after_it():
    result = cut_after_a(3, 1, 6, 4, 5, 1, 1, stop="\ndef")
    assert (result.text, result.tokens, result.stop_reason) == ("  a", [3, 1, 6, 4, 5], "stop")
    assert result.heads == [1, 2, 1, 2, 1]
    assert result.forward_passes == 3


def test_the_cut_does_not_depend_on_how_much_was_generated_beyond():
    # "b\n" is complete one token before "b\nde", which begins no earlier; "ab\nde" would begin earlier but comes later.
    tokens = [3, 1, 2, 4, 5]
    assert {cut_after_a(*tokens[:n], stop="b\n|ab\nde").text for n in (3, 4, 5)} == {"  a"}


@pytest.fixture(scope="module")
def counting_model():
    """Token t is followed by t + 1 mod 8: the feed-forward layer of head k maps one-hot t to one-hot t + k."""
    config = ModelConfig(dim=8, n_layers=3, n_heads=1, vocab_size=8, ffn_dim=8, n_future_tokens=2, max_seq_len=64)
    params = jax.tree.map(jnp.zeros_like, init_params(config))
    eye = jnp.eye(8)
    params["tok_embeddings"]["embedding"] = params["output"]["kernel"] = eye
    params["norm"]["scale"] = jnp.ones(8)
    params["heads"]["ffn_norm"]["scale"] = jnp.ones((2, 8))
    params["heads"]["feed_forward"] = {
        "w1": jnp.stack([eye, eye]),
        "w3": jnp.stack([eye, eye]),
        "w2": jnp.stack([5 * jnp.roll(eye, 1, axis=1), 5 * jnp.roll(eye, 2, axis=1)]),
    }
    return config, params


@pytest.mark.parametrize("speculate", [True, False])
def test_generation_ends_at_eos_or_stop(counting_model, speculate):
    config, params = counting_model
    run = lambda stops: generate_text(
        params, config, Pieces(), [[1], [4]], stops=stops, max_new_tokens=30, speculate=speculate
    )
    assert [(one.text, one.stop_reason) for one in run(None)] == [("b\n  def \n", "eos"), ("f \n", "eos")]
    stopped, other = run([re.compile("ef"), re.compile("de")])
    assert (stopped.text, stopped.stop_reason, stopped.tokens) == ("b\n  d", "stop", [2, 3, 4, 5])
    assert (other.text, other.stop_reason) == ("f \n", "eos")


def test_a_callback_ends_its_row_and_the_others_continue(counting_model):
    config, params = counting_model
    seen = []

    def on_tokens(index, tokens, heads):
        assert len(tokens) == len(heads)
        seen.append((index, len(tokens)))
        return index == 0 and len(tokens) > 6

    first, second = generate(params, config, [[1], [4]], max_new_tokens=40, on_tokens=on_tokens)
    assert first.stop_reason == "stop"
    assert 6 < len(first.tokens) < 40
    assert (second.stop_reason, len(second.tokens)) == ("length", 40)
    lengths = [n for index, n in seen if index == 1]
    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    assert lengths[-1] == 40


MISTAKES = {
    "prompt 0 is empty": ([[]], {}),
    "prompt 1 has 64 tokens.*context of 64": ([[1], [1] * 64], {}),
    "prompt 0 holds 8, which is no token.*vocabulary of 8": ([[1, 8]], {}),
    "prompt 0 holds -1": ([[-1]], {}),
    "prompt 0 holds 1.0": ([[1.0]], {}),
    "seed is 9223372036854775808; expected an integer from 0": ([[1]], {"seed": 2**63}),
    "seed is -1": ([[1]], {"seed": -1}),
    "max_new_tokens is 0": ([[1]], {"max_new_tokens": 0}),
    "temperature is -0.5": ([[1]], {"temperature": -0.5}),
    "temperature is nan": ([[1]], {"temperature": float("nan")}),
    "temperature is inf": ([[1]], {"temperature": float("inf")}),
    "top_p is 0": ([[1]], {"top_p": 0}),
    "top_p is 1.5": ([[1]], {"top_p": 1.5}),
    "top_k is -1": ([[1]], {"top_k": -1}),
    "eos_id is 9": ([[1]], {"eos_id": 9}),
    "batch_size is 0": ([[1]], {"batch_size": 0}),
    "1 prompt_indices were given for 2 prompts": ([[1], [2]], {"prompt_indices": [3]}),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_sentence(message):
    prompts, settings = MISTAKES[message]
    config = ModelConfig(dim=8, n_layers=3, n_heads=1, vocab_size=8, max_seq_len=64)
    with pytest.raises(DecodingError, match=message) as caught:
        generate(None, config, prompts, **{"max_new_tokens": 4, **settings})
    assert "\n" not in str(caught.value)
