"""Models that transformers wrote compute the same here, and the other way round, at positions far out."""

import numpy as np
import pytest

import converters
from wmtp_jax.model import ModelConfig, MTPTransformer, RopeScaling, init_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOKENS = np.random.default_rng(0).integers(0, 97, (1, 640))


def logits_here(config, params) -> np.ndarray:
    return np.asarray(MTPTransformer(config).apply({"params": params}, TOKENS))[:, :, 0]


def logits_there(directory) -> np.ndarray:
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


@pytest.mark.parametrize(("tied", "scaled"), [(False, False), (True, True)])
def test_what_we_write(tmp_path, tied, scaled):
    config = ModelConfig(
        dim=48,
        n_layers=5,
        n_heads=6,
        n_kv_heads=2,
        vocab_size=97,
        ffn_dim=100,
        n_future_tokens=3,
        rope_theta=5e4,
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, 128) if scaled else None,
        tie_embeddings=tied,
    )
    params = init_params(config, seed=1)
    converters.save_hf(tmp_path / "hf", config, params)
    np.testing.assert_allclose(logits_there(tmp_path / "hf"), logits_here(config, params), atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_what_they_write(tmp_path, tied):
    shape = {"hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 6}
    rope = {"rope_type": "llama3", "rope_theta": 5e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **shape,
            num_key_value_heads=2,
            vocab_size=97,
            tie_word_embeddings=tied,
            rope_parameters=rope | {"original_max_position_embeddings": 128},
        )
    )
    made.save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    config, params = converters.load_hf(tmp_path / "hf")
    assert config.rope_scaling == RopeScaling(4.0, 1.0, 4.0, 128)
    np.testing.assert_allclose(logits_here(config, params), logits_there(tmp_path / "hf"), atol=1e-4)
    converters.save_hf(tmp_path / "back", config, params, source=tmp_path / "hf")
    np.testing.assert_array_equal(logits_there(tmp_path / "back"), logits_there(tmp_path / "hf"))
