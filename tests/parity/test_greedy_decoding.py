"""Greedy decoding of 200 prompts: speculation = head 1 alone = the torch reference, token for token, in fp32."""

import dataclasses
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from torch_trees import meta_state_dict

import converters
from vendor.meta_llama import LLaMA, ModelArgs, Transformer
from wmtp_jax.data import encode_prompt, load_tokenizer, read_records, render
from wmtp_jax.decoding import generate
from wmtp_jax.model import ModelConfig, init_params

ROOT = Path(__file__).parents[2]
MICRO = ROOT / "storage/models_v2/micro-mtp"
# Not a multiple of 2 or 4, so the last block overruns.
MAX_NEW_TOKENS = 43


def torch_greedy(config: ModelConfig, params, prompts, eos_id: int) -> list[list[int]]:
    """The reference's continuations, without EOS."""
    names = {field.name for field in dataclasses.fields(ModelArgs)} - {"rope_scaling"}
    model = Transformer(ModelArgs(**{name: getattr(config, name) for name in names}))
    model.load_state_dict(meta_state_dict(params))
    llama = LLaMA(model, types.SimpleNamespace(eos_id=eos_id))
    with torch.inference_mode():
        return llama.generate(prompts, MAX_NEW_TOKENS)


def assert_same(config, params, prompts, eos_id) -> float:
    """Compares the three; returns tokens per forward pass."""
    expected = torch_greedy(config, params, prompts, eos_id)
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "eos_id": eos_id, "batch_size": 16}
    drafted = generate(params, config, prompts, **settings)
    alone = generate(params, config, prompts, speculate=False, **settings)
    assert [result.tokens for result in drafted] == [result.tokens for result in alone]
    assert [result.stop_reason for result in drafted] == [result.stop_reason for result in alone]
    for result, tokens in zip(drafted, expected, strict=True):
        ended = len(tokens) < MAX_NEW_TOKENS
        assert result.tokens == ([*tokens, eos_id] if ended else tokens)
        assert result.stop_reason == ("eos" if ended else "length")
    assert all(result.forward_passes == len(result.tokens) for result in alone)
    return sum(len(result.tokens) for result in drafted) / sum(result.forward_passes for result in drafted)


RANDOM = {
    "one head": {"n_future_tokens": 1, "n_layers": 3, "n_kv_heads": 4},
    "two heads, GQA": {"n_future_tokens": 2, "n_layers": 4, "n_kv_heads": 2, "rope_theta": 500000.0},
    "four heads, GQA": {"n_future_tokens": 4, "n_layers": 6, "n_kv_heads": 1, "tie_embeddings": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM)
def test_random_models(name):
    config = ModelConfig(dim=36, n_heads=4, head_dim=10, ffn_dim=52, vocab_size=83, max_seq_len=128, **RANDOM[name])
    params = init_params(config, seed=2)
    # Later heads that resemble head 1 draft what sometimes stands and sometimes falls.
    params["heads"] = jax.tree.map(lambda leaf: 0.8 * leaf[:1] + 0.2 * leaf, params["heads"])
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, 83, n).tolist() for n in rng.integers(1, 60, 40)]
    free = generate(params, config, prompts, max_new_tokens=MAX_NEW_TOKENS, batch_size=16)
    # The token that ends most rows, but not all, and not at once.
    late = [set(result.tokens[4:]) - set(result.tokens[:4]) for result in free]
    eos_id = max(range(83), key=lambda token: sum(token in tokens for tokens in late))
    speed = assert_same(config, params, prompts, eos_id)
    assert 1.05 < speed < config.n_future_tokens or config.n_future_tokens == 1
    reasons = {result.stop_reason for result in generate(params, config, prompts, max_new_tokens=20, eos_id=eos_id)}
    assert reasons == {"eos", "length"}


@pytest.mark.slow
def test_a_pretrained_llama_with_grown_heads(shared_data):
    config, params = converters.load_meta(shared_data / "stories260k")
    # Four copies of the last layer: each draft is what head 1 would say one token earlier, so few stand.
    params["heads"] = jax.tree.map(lambda leaf: leaf.repeat(4, axis=0), params["heads"])
    config = dataclasses.replace(config, n_layers=config.n_layers + 3, n_future_tokens=4)
    rng = np.random.default_rng(5)
    starts = [[1, 403, 407, 261, 378], [1, 403], [1], [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298]]
    prompts = [starts[i % 4] + rng.integers(260, 500, i // 2).tolist() for i in range(40)]
    assert_same(config, params, prompts, eos_id=2)


@pytest.mark.slow
def test_embedded_tasks():
    if not list(MICRO.glob("*.safetensors")):
        pytest.skip("needs storage/models_v2/micro-mtp; set it up with `python -m wmtp_jax.storage models`")
    config, params = converters.load(MICRO, dtype="float32")
    tokenizer = load_tokenizer(MICRO)
    records = read_records(ROOT / "storage/datasets_v2/microcode/test.jsonl.gz")
    prompts = list(dict.fromkeys(tuple(encode_prompt(render(record, "raw"), tokenizer)) for record in records))
    prompts = [list(prompt) for prompt in prompts[:40]]
    assert assert_same(config, params, prompts, tokenizer.eos_id) > 2.5
