"""A real pretrained model, from both layouts, against numbers computed in float64 without JAX or torch."""

import json

import jax
import numpy as np
import pytest

import converters
from wmtp_jax.model import MTPTransformer


@pytest.mark.parametrize("load", [converters.load_meta, converters.load_hf])
def test_reference_numbers(shared_data, load):
    config, params = load(shared_data / "stories260k")
    reference = json.loads((shared_data / "stories260k" / "reference.json").read_text())
    logits = lambda ids: MTPTransformer(config).apply({"params": params}, np.asarray([ids]))[0, :, 0]

    story = reference["story_ids"]
    laws = jax.nn.log_softmax(logits(story))
    nll = -np.asarray(laws)[np.arange(len(story) - 1), story[1:]]
    np.testing.assert_allclose(nll.mean(), reference["story_ce_mean"], atol=1e-5)
    np.testing.assert_allclose(logits(story)[-1], reference["last_logits_fp64"], atol=1e-3)

    # Greedy ids are a fixed point: each is the most likely one after those before it.
    greedy = reference["greedy_ids"]
    predicted = np.asarray(logits(greedy)).argmax(-1)
    np.testing.assert_array_equal(predicted[:-1], greedy[1:])
