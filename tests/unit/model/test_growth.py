"""The larger models of the benchmarks compute what the small ones do."""

import numpy as np
import pytest

from benchmarks.growth import grow
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params


@pytest.mark.parametrize("tied", [False, True])
def test_a_grown_model_computes_the_same(tied):
    config = ModelConfig(
        dim=24, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=6, vocab_size=50, ffn_dim=40, n_future_tokens=2,
        max_seq_len=64, tie_embeddings=tied,
    )  # fmt: skip
    params = init_params(config, seed=1)
    larger, grown = grow(config, params, dim=72, n_trunk_layers=5, head_dim=12, ffn_dim=100)
    tokens = np.random.default_rng(0).integers(0, 50, (2, 60))
    logits = lambda config, params: np.asarray(MTPTransformer(config).apply({"params": params}, tokens))
    found, expected = logits(larger, grown), logits(config, params)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert grown["trunk"]["attention"]["wq"].shape == (5, 72, 4, 12)


@pytest.mark.parametrize("change", [{"head_dim": 10}, {"dim": 20}, {"n_trunk_layers": 1}, {"ffn_dim": 39}])
def test_what_the_model_does_not_fit_into_is_refused(change):
    config = ModelConfig(dim=24, n_layers=4, n_heads=4, head_dim=6, vocab_size=50, ffn_dim=40, n_future_tokens=2)
    with pytest.raises(ValueError, match=f"{next(iter(change))} is {next(iter(change.values()))}"):
        grow(config, {}, **{"dim": 24, "n_trunk_layers": 2, "head_dim": 6, "ffn_dim": 40} | change)
