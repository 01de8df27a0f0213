"""Random models written the way Meta and Hugging Face write them, without any code of the converters."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from wmtp_jax.model import ModelConfig

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture
def small():
    """Grouped-query attention, odd sizes, a feed-forward width that no formula gives."""

    def make(**changes) -> ModelConfig:
        numbers = {"dim": 24, "n_layers": 5, "n_heads": 6, "n_kv_heads": 2, "vocab_size": 37, "ffn_dim": 43}
        return ModelConfig(**(numbers | {"n_future_tokens": 1} | changes))

    return make


@pytest.fixture
def meta_state():
    """A state dict in Meta's layout for a config, straight from the documented key list."""

    def make(config: ModelConfig, dtype="float32", seed=0, output="untied") -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        draw = lambda *shape: rng.standard_normal(shape, np.float32).astype(DTYPES[dtype])
        D, F, Q = config.dim, config.ffn_dim, config.head_dim
        trunk = config.n_layers - config.n_future_tokens + 1
        blocks = [f"layers.{i}" for i in range(trunk)]
        blocks += [f"extra_heads.{i}" for i in range(config.n_future_tokens - 1)]
        state = {"tok_embeddings.weight": draw(config.vocab_size, D), "norm.weight": draw(D)}
        for block in blocks:
            state |= {
                f"{block}.attention.wq.weight": draw(config.n_heads * Q, D),
                f"{block}.attention.wk.weight": draw(config.n_kv_heads * Q, D),
                f"{block}.attention.wv.weight": draw(config.n_kv_heads * Q, D),
                f"{block}.attention.wo.weight": draw(D, config.n_heads * Q),
                f"{block}.feed_forward.w1.weight": draw(F, D),
                f"{block}.feed_forward.w2.weight": draw(D, F),
                f"{block}.feed_forward.w3.weight": draw(F, D),
                f"{block}.attention_norm.weight": draw(D),
                f"{block}.ffn_norm.weight": draw(D),
            }
        if output == "untied":
            state["output.weight"] = draw(config.vocab_size, D)
        elif output == "copy":
            state["output.weight"] = state["tok_embeddings.weight"].copy()
        return state

    return make


@pytest.fixture
def hf_state():
    """A state dict of LlamaForCausalLM for a config."""

    def make(config: ModelConfig, dtype="float32", seed=0, output="untied") -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        draw = lambda *shape: rng.standard_normal(shape, np.float32).astype(DTYPES[dtype])
        D, F, Q = config.dim, config.ffn_dim, config.head_dim
        state = {"model.embed_tokens.weight": draw(config.vocab_size, D), "model.norm.weight": draw(D)}
        for i in range(config.n_layers):
            state |= {
                f"model.layers.{i}.self_attn.q_proj.weight": draw(config.n_heads * Q, D),
                f"model.layers.{i}.self_attn.k_proj.weight": draw(config.n_kv_heads * Q, D),
                f"model.layers.{i}.self_attn.v_proj.weight": draw(config.n_kv_heads * Q, D),
                f"model.layers.{i}.self_attn.o_proj.weight": draw(D, config.n_heads * Q),
                f"model.layers.{i}.mlp.gate_proj.weight": draw(F, D),
                f"model.layers.{i}.mlp.up_proj.weight": draw(F, D),
                f"model.layers.{i}.mlp.down_proj.weight": draw(D, F),
                f"model.layers.{i}.input_layernorm.weight": draw(D),
                f"model.layers.{i}.post_attention_layernorm.weight": draw(D),
            }
        if output == "untied":
            state["lm_head.weight"] = draw(config.vocab_size, D)
        return state

    return make


@pytest.fixture
def params_json():
    """The params.json of a config."""

    def make(config: ModelConfig, **changes) -> dict:
        record = {"dim": config.dim, "n_layers": config.n_layers, "n_heads": config.n_heads, "norm_eps": 1e-5}
        record |= {"n_kv_heads": config.n_kv_heads, "vocab_size": config.vocab_size, "rope_theta": 10000.0}
        record |= {"n_future_tokens": config.n_future_tokens} | changes
        return {name: value for name, value in record.items() if value is not None}

    return make


@pytest.fixture
def config_json():
    """The config.json of a config."""

    def make(config: ModelConfig, **changes) -> dict:
        record = {"model_type": "llama", "hidden_size": config.dim, "intermediate_size": config.ffn_dim}
        record |= {"num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads}
        record |= {"num_key_value_heads": config.n_kv_heads, "vocab_size": config.vocab_size, "hidden_act": "silu"}
        record |= {"rms_norm_eps": 1e-6, "tie_word_embeddings": config.tie_embeddings, "bos_token_id": 1} | changes
        return {name: value for name, value in record.items() if value is not None}

    return make


@pytest.fixture
def write_model():
    """Writes a state dict as single or sharded safetensors, or by torch.save, with its config beside it."""

    def write(directory, config_name, record, state, kind="single"):
        directory.mkdir(parents=True)
        (directory / config_name).write_text(json.dumps(record))
        stem = "consolidated" if config_name == "params.json" else "model"
        if kind == "single":
            safetensors.numpy.save_file(state, directory / f"{stem}.safetensors")
        elif kind == "sharded":
            names = sorted(state)
            parts = {f"{stem}-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
            for file, part in parts.items():
                safetensors.numpy.save_file({name: state[name] for name in part}, directory / file)
            weight_map = {name: file for file, part in parts.items() for name in part}
            index = {"metadata": {}, "weight_map": weight_map}
            (directory / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
        else:
            torch = pytest.importorskip("torch")
            as_torch = {name: to_torch_tensor(torch, value) for name, value in state.items()}
            torch.save(as_torch, directory / ("consolidated.pth" if stem == "consolidated" else "pytorch_model.bin"))
        return directory

    return write


def to_torch_tensor(torch, values: np.ndarray):
    """The same bits as a torch tensor."""
    if values.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(values.copy())
