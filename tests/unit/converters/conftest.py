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


BLOCK = {  # As documented: Meta's name, Hugging Face's name, (out, in).
    ("attention.wq", "self_attn.q_proj"): lambda c: (c.n_heads * c.head_dim, c.dim),
    ("attention.wk", "self_attn.k_proj"): lambda c: (c.n_kv_heads * c.head_dim, c.dim),
    ("attention.wv", "self_attn.v_proj"): lambda c: (c.n_kv_heads * c.head_dim, c.dim),
    ("attention.wo", "self_attn.o_proj"): lambda c: (c.dim, c.n_heads * c.head_dim),
    ("feed_forward.w1", "mlp.gate_proj"): lambda c: (c.ffn_dim, c.dim),
    ("feed_forward.w2", "mlp.down_proj"): lambda c: (c.dim, c.ffn_dim),
    ("feed_forward.w3", "mlp.up_proj"): lambda c: (c.ffn_dim, c.dim),
    ("attention_norm", "input_layernorm"): lambda c: (c.dim,),
    ("ffn_norm", "post_attention_layernorm"): lambda c: (c.dim,),
}


def drawn(config, dtype, column: int, blocks: list[str], embeddings: str, norm: str, output: str | None) -> dict:
    """A state dict of random numbers with the names of one column of `BLOCK`."""
    shapes = {embeddings: (config.vocab_size, config.dim), norm: (config.dim,)}
    shapes |= {f"{block}.{names[column]}.weight": shape(config) for block in blocks for names, shape in BLOCK.items()}
    shapes |= {output: (config.vocab_size, config.dim)} if output else {}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32).astype(DTYPES[dtype]) for name, shape in shapes.items()}


@pytest.fixture
def meta_state():
    """A state dict in Meta's layout for a config."""

    def make(config: ModelConfig, dtype="float32", output="untied") -> dict[str, np.ndarray]:
        blocks = [f"layers.{i}" for i in range(config.n_layers - config.n_future_tokens + 1)]
        blocks += [f"extra_heads.{i}" for i in range(config.n_future_tokens - 1)]
        own = "output.weight" if output == "untied" else None
        state = drawn(config, dtype, 0, blocks, "tok_embeddings.weight", "norm.weight", own)
        return state | ({"output.weight": state["tok_embeddings.weight"].copy()} if output == "copy" else {})

    return make


@pytest.fixture
def hf_state():
    """A state dict of LlamaForCausalLM for a config."""

    def make(config: ModelConfig, dtype="float32", output="untied") -> dict[str, np.ndarray]:
        blocks = [f"model.layers.{i}" for i in range(config.n_layers)]
        own = "lm_head.weight" if output == "untied" else None
        return drawn(config, dtype, 1, blocks, "model.embed_tokens.weight", "model.norm.weight", own)

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
