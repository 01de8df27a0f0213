"""Trunk plus any one head is a plain Llama: each head against transformers' LlamaForCausalLM."""

import numpy as np
import pytest
import torch
from dense_loss import head_loss
from torch_trees import hugging_face_state_dict
from transformers import LlamaConfig, LlamaForCausalLM

from wmtp_jax.model import RopeScaling


def llama(case, head: int) -> LlamaForCausalLM:
    """Our trunk with head number `head` (from 0) as its last layer, in Hugging Face's layout."""
    config = case.config
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        rope |= {"rope_type": "llama3", **vars(config.rope_scaling)}
    hugging_face_config = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=config.ffn_dim,
        num_hidden_layers=config.n_trunk_layers + 1,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.norm_eps,
        rope_parameters=rope,
        max_position_embeddings=1024,
        tie_word_embeddings=config.tie_embeddings,
        attn_implementation="eager",
        use_cache=False,
    )
    model = LlamaForCausalLM(hugging_face_config)
    model.load_state_dict(hugging_face_state_dict(case.params, head))
    return model


@pytest.fixture(scope="module")
def one_document():
    """Segment ids of two rows without packing, which is all that LlamaForCausalLM knows."""
    return np.ones((2, 700), np.int64)


@pytest.mark.parametrize("attention", ["dense", "blocked"])
def test_logits_of_each_head(case, one_document, attention):
    ours = case.logits(attention, one_document)
    for head in range(case.config.n_future_tokens):
        with torch.no_grad():
            expected = llama(case, head)(torch.as_tensor(case.batch.tokens)).logits.numpy()
        assert np.abs(ours[:, :, head] - expected).max() <= 1e-4, f"head {head + 1}"


def assert_head_trains_like_a_llama(case, head: int, segment_ids, attention: str):
    batch, N = case.batch, case.config.n_future_tokens
    model = llama(case, head)
    logits = model(torch.as_tensor(batch.tokens)).logits
    expected, _ = head_loss(logits, head + 1, batch.tokens, segment_ids, batch.target_mask, batch.weights)
    expected.backward()
    loss, _, gradients = case.loss_and_gradients(batch.weights, np.eye(N)[head], attention, segment_ids)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    ours = hugging_face_state_dict(gradients, head)
    for name, parameter in model.named_parameters():
        largest = parameter.grad.abs().max().item()
        assert largest > 1e-6, f"{name} has no gradient, so nothing is compared"
        assert (ours[name] - parameter.grad).abs().max().item() <= 1e-4 * largest, f"head {head + 1}, {name}"
    other_heads = np.delete(np.arange(N), head)
    assert not np.any(np.asarray(gradients["heads"]["feed_forward"]["w2"])[other_heads])


@pytest.mark.slow
def test_loss_and_gradients_of_each_head(case, one_document):
    for head in range(case.config.n_future_tokens):
        assert_head_trains_like_a_llama(case, head, one_document, "dense")


def test_gradients_through_blocked_attention(new_case, one_document):
    case = new_case(n_layers=4, n_future_tokens=2, n_kv_heads=3)
    assert_head_trains_like_a_llama(case, 1, one_document, "blocked")


def test_llama3_rope_scaling_beyond_the_original_length(new_case, one_document):
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
    case = new_case(n_layers=3, n_future_tokens=1, n_kv_heads=3, head_dim=10, rope_scaling=scaling)
    ours = case.logits("dense", one_document)[:, :, 0]
    with torch.no_grad():
        expected = llama(case, 0)(torch.as_tensor(case.batch.tokens)).logits.numpy()
    assert np.abs(ours - expected).max() <= 1e-4
