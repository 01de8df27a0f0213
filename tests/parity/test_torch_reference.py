"""Logits, loss and the gradient of every parameter against the torch reference, in fp32 over sequences of 700."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from dense_loss import all_heads_loss, head_loss
from torch_trees import meta_state_dict

from vendor.meta_llama import ModelArgs, Transformer
from wmtp_jax.model import ModelConfig, param_shapes


def torch_model(case) -> Transformer:
    """The reference with the case's parameters."""
    model = Transformer(ModelArgs(**dataclasses.asdict(case.config)))
    model.load_state_dict(meta_state_dict(case.params))
    return model


def torch_logits(case, model=None) -> torch.Tensor:
    model = model or torch_model(case)
    tokens, segment_ids = torch.as_tensor(case.batch.tokens), torch.as_tensor(case.batch.segment_ids)
    return model(tokens, return_all_heads=True, segment_ids=segment_ids)


def assert_same_gradients(ours: dict, theirs: dict):
    """Every parameter's gradient within 1e-4 of that parameter's largest entry, and none of them trivially zero."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        largest = expected.abs().max().item()
        assert largest > 1e-6, f"{name} has no gradient, so nothing is compared"
        assert (ours[name] - expected).abs().max().item() <= 1e-4 * largest, name


def test_logits_of_all_heads(case):
    expected = torch_logits(case).detach().numpy()
    ours = case.logits()
    assert ours.shape == expected.shape == (2, 700, case.config.n_future_tokens, 131)
    assert np.abs(expected).max() > 1.0
    assert np.abs(ours - expected).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["unweighted", "weighted"])
def test_loss_and_gradients(case, weighting):
    N, batch = case.config.n_future_tokens, case.batch
    if weighting == "unweighted":
        weights, head_weights = np.ones_like(batch.weights), np.full(N, 1 / N)
    else:
        weights, head_weights = batch.weights, np.arange(N, 0, -1) / (N * (N + 1) / 2)
    model = torch_model(case)
    expected = all_heads_loss(
        torch_logits(case, model), head_weights, batch.tokens, batch.segment_ids, batch.target_mask, weights
    )
    expected.backward()
    loss, _, gradients = case.loss_and_gradients(weights, head_weights)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(meta_state_dict(gradients), {name: p.grad for name, p in model.named_parameters()})


def test_nll_of_every_head_and_token(case):
    N, batch = case.config.n_future_tokens, case.batch
    logits = torch_logits(case).detach()
    _, nll, _ = case.loss_and_gradients(batch.weights, np.full(N, 1 / N))
    for k in range(1, N + 1):
        arguments = (batch.tokens, batch.segment_ids, batch.target_mask, batch.weights)
        _, expected = head_loss(logits[:, :, k - 1], k, *arguments)
        np.testing.assert_allclose(nll[k - 1, :, :-k], expected.numpy(), atol=1e-4)


def test_bf16_costs_no_more_than_in_torch(new_case):
    """Error against fp32 of computing in bf16; measured: torch 0.041 rms, ours 0.035, of logits of rms 1.03."""
    case = new_case(n_layers=6, n_future_tokens=4, n_kv_heads=3)
    exact = torch_logits(case).detach().numpy()
    in_torch = torch_logits(case, torch_model(case).bfloat16()).detach().numpy() - exact
    in_ours = case.logits(dtype=jnp.bfloat16) - exact
    rms = lambda x: np.sqrt(np.mean(np.square(x)))
    assert 1e-3 < rms(in_ours) < 1.25 * rms(in_torch)
    assert np.abs(in_ours).max() < 1.5 * np.abs(in_torch).max()


def test_last_layer_is_the_first_head_and_no_trunk(new_case):
    """A public re-implementation runs layers.{last} as trunk too; heads 2..N then see another input."""
    case = new_case(n_layers=6, n_future_tokens=4, n_kv_heads=3)
    model = torch_model(case)
    segment_ids = torch.as_tensor(case.batch.segment_ids)
    with torch.no_grad():
        context = model.context(torch.as_tensor(case.batch.tokens), segment_ids=segment_ids)
        trunk = model.trunk(torch.as_tensor(case.batch.tokens), *context)
        too_deep = model.layers[-1](trunk, *context)
        wrong = torch.stack([model.logits(head(too_deep, *context)) for head in model.extra_heads], dim=2).numpy()
    ours = case.logits()[:, :, 1:]
    right = torch_logits(case, model).detach().numpy()[:, :, 1:]
    assert np.abs(ours - right).max() <= 1e-4
    for head in range(3):
        assert np.abs(ours[:, :, head] - wrong[:, :, head]).max() > 0.5


def test_cached_decoding_of_the_reference_equals_its_training_forward(new_case):
    case = new_case(n_layers=4, n_future_tokens=2, n_kv_heads=3)
    model, tokens = torch_model(case), torch.as_tensor(case.batch.tokens[:, :60])
    expected = model(tokens, return_all_heads=True).detach()
    pieces = [model(tokens[:, a:b], a, return_all_heads=True) for a, b in ((0, 33), (33, 34), (34, 60))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-5, rtol=0)
    assert not pieces[0].requires_grad


def test_names_and_shapes_are_those_of_the_published_7b_checkpoint(shared_facts):
    published = json.loads((shared_facts / "meta_mtp_7b_1t_4.keys.json").read_text())
    config = ModelConfig(dim=4096, n_layers=32, n_heads=32, vocab_size=32000, n_future_tokens=4)
    with torch.device("meta"):
        state = Transformer(ModelArgs(**dataclasses.asdict(config))).state_dict()
    assert {name: list(x.shape) for name, x in state.items()} == published["tensors"]
    n_params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(config)))
    assert n_params == published["n_params"] == sum(x.numel() for x in state.values())
