"""What transformers wrote computes the same here, and what we write in transformers and the torch reference."""

import numpy as np
import pytest

import converters
from vendor.meta_llama import ModelArgs, Transformer
from wmtp_jax.model import ModelConfig, MTPTransformer, RopeScaling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file  # noqa: E402

TOKENS = np.random.default_rng(0).integers(0, 97, (1, 640))


def logits_here(config, params) -> np.ndarray:
    return np.asarray(MTPTransformer(config).apply({"params": params}, TOKENS))


def logits_of_transformers(directory) -> np.ndarray:
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


def logits_of_the_reference(directory) -> np.ndarray:
    model = Transformer(ModelArgs.from_json(directory / "params.json"))
    model.load_state_dict(load_file(directory / "consolidated.safetensors"))
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS), return_all_heads=True).numpy()


@pytest.mark.parametrize("simple", [True, False])
def test_what_we_write(tmp_path, random_params, simple):
    sizes = {"dim": 48, "n_layers": 5, "n_heads": 6, "n_kv_heads": 2, "vocab_size": 97, "ffn_dim": 100}
    scaling = None if simple else RopeScaling(8.0, 1.0, 4.0, 128)
    more = {"n_future_tokens": 3, "rope_theta": 5e4, "rope_scaling": scaling, "tie_embeddings": not simple}
    config = ModelConfig(**sizes, **more)
    params = random_params(config)
    expected = logits_here(config, params)
    assert expected.std() > 0.1
    converters.save_hf(tmp_path / "hf", config, params)
    np.testing.assert_allclose(logits_of_transformers(tmp_path / "hf"), expected[:, :, 0], atol=1e-4)
    converters.save_meta(tmp_path / "meta", config, params)
    np.testing.assert_allclose(logits_of_the_reference(tmp_path / "meta"), expected, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_what_they_write(tmp_path, tied):
    shape = {"hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 6}
    shape |= {"num_key_value_heads": 2, "vocab_size": 97, "tie_word_embeddings": tied}
    rope = {"rope_type": "llama3", "rope_theta": 5e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 128}
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, rope_parameters=rope))
    made.save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    config, params = converters.load_hf(tmp_path / "hf")
    assert config.rope_scaling == RopeScaling(4.0, 1.0, 4.0, 128)
    theirs = logits_of_transformers(tmp_path / "hf")
    np.testing.assert_allclose(logits_here(config, params)[:, :, 0], theirs, atol=1e-4)
    converters.save_hf(tmp_path / "back", config, params, source=tmp_path / "hf")
    np.testing.assert_array_equal(logits_of_transformers(tmp_path / "back"), theirs)
