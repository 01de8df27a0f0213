"""A real pretrained Llama (stories260k) in both layouts through the torch reference and through our model.

`reference.json` was computed elsewhere, in float64 and without any code of this project.
"""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from converters import load_hf, load_meta
from vendor.meta_llama import LLaMA
from wmtp_jax.decoding import generate
from wmtp_jax.model import MTPTransformer


@pytest.fixture(scope="module")
def stories(shared_data):
    return shared_data / "stories260k"


@pytest.fixture(scope="module")
def reference(stories):
    return json.loads((stories / "reference.json").read_text())


@pytest.fixture(scope="module")
def torch_llama(stories, tmp_path_factory) -> LLaMA:
    directory = tmp_path_factory.mktemp("meta")
    for name in ("params.json", "tokenizer.model"):
        shutil.copyfile(stories / name, directory / name)
    shutil.copyfile(stories / "meta_model.safetensors", directory / "consolidated.safetensors")
    return LLaMA.build(directory)


@pytest.fixture(scope="module", params=["meta", "hugging_face"])
def ours(request, stories):
    """Config and parameters as the converters read them, from either layout."""
    return {"meta": load_meta, "hugging_face": load_hf}[request.param](stories)


def mean_cross_entropy(logits_SxV: np.ndarray, ids: list[int]) -> float:
    logits = logits_SxV[:-1].astype(np.float64)
    nll = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.array(ids[1:])[:, None], -1)[:, 0]
    return nll.mean()


def assert_story(logits_SxV: np.ndarray, reference: dict):
    assert mean_cross_entropy(logits_SxV, reference["story_ids"]) == pytest.approx(reference["story_ce_mean"], abs=1e-5)
    np.testing.assert_allclose(logits_SxV[-1], reference["last_logits_fp64"], atol=1e-3)


def test_story_through_torch(torch_llama, reference):
    assert torch_llama.tokenizer.encode(reference["story"], bos=True, eos=False) == reference["story_ids"]
    with torch.no_grad():
        logits = torch_llama.model(torch.tensor([reference["story_ids"]]))
    assert_story(logits[0, :, 0].numpy(), reference)


def test_greedy_text_through_torch(torch_llama, reference):
    first, *rest = reference["greedy_ids"]
    (ids,) = torch_llama.generate([[first]], max_gen_len=len(rest))
    assert ids == rest
    assert torch_llama.tokenizer.decode([first, *ids]) == reference["greedy_text"]


def test_prompts_of_unequal_length_do_not_disturb_each_other(torch_llama, reference):
    ids = reference["greedy_ids"]
    assert torch_llama.generate([ids[:1], ids[:9]], max_gen_len=20) == [ids[1:21], ids[9:29]]


def test_nucleus_sampling_stays_in_the_nucleus(torch_llama, reference):
    ids = reference["greedy_ids"]
    assert torch_llama.generate([ids[:1]], 20, temperature=1.0, top_p=1e-6) == [ids[1:21]]
    sampled = torch_llama.generate([ids[:1]], 40, temperature=1.0, top_p=0.9, seed=3)
    assert sampled == torch_llama.generate([ids[:1]], 40, temperature=1.0, top_p=0.9, seed=3)
    assert sampled != torch_llama.generate([ids[:1]], 40, temperature=1.0, top_p=0.9, seed=4)
    with torch.no_grad():
        logits = torch_llama.model(torch.tensor([ids[:1] + sampled[0]]))[0, :-1, 0]
    for probs, token in zip(torch.softmax(logits, dim=-1), sampled[0], strict=True):
        assert probs[probs > probs[token]].sum() < 0.9


def test_story_through_our_model(ours, reference):
    config, params = ours
    logits = MTPTransformer(config).apply({"params": params}, jnp.array([reference["story_ids"]]))
    assert_story(np.asarray(logits[0, :, 0]), reference)


def test_story_in_bf16(ours, reference):
    """Computing in bf16 costs what it costs torch: 8 bits of mantissa, under 0.02 nats per token here."""
    config, params = ours
    logits = MTPTransformer(config, jnp.bfloat16).apply({"params": params}, jnp.array([reference["story_ids"]]))
    assert mean_cross_entropy(np.asarray(logits[0, :, 0]), reference["story_ids"]) == pytest.approx(
        reference["story_ce_mean"], abs=0.02
    )


def test_greedy_text_through_generate(ours, reference, torch_llama):
    config, params = ours
    first, *rest = reference["greedy_ids"]
    (result,) = generate(params, config, [[first]], max_new_tokens=len(rest))
    assert result.tokens == rest
    assert torch_llama.tokenizer.decode([first, *result.tokens]) == reference["greedy_text"]
