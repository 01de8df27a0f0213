"""Small directories that look as the big models do when they are published: names, layouts and files are theirs."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.torch
import torch


def write_multi_token(repository: Path, keys: dict[str, list[int]], narrower: int, vocab_size: int) -> dict:
    """facebook/multi-token-prediction: 7B_1T_4/consolidated.pth and params.json, the tokenizer beside the folder.

    Args:
        repository: directory to make.
        keys: shape per tensor of the real checkpoint.
        narrower: divisor of its widths.
        vocab_size: instead of 32,000.

    Returns:
        The state dict.
    """
    folder = repository / "7B_1T_4"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = {32000: vocab_size, 4096: 4096 // narrower, 11008: 11008 // narrower}
    state = {}
    for name, shape in keys.items():
        values = rng.standard_normal([sizes[size] for size in shape], np.float32)
        state[name] = torch.from_numpy(values * values.shape[-1] ** -0.5)
    params = {"dim": 4096 // narrower, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "multiple_of": 256 // narrower}
    params |= {"ffn_dim_multiplier": 1.0, "norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": vocab_size}
    (folder / "params.json").write_text(json.dumps(params | {"n_future_tokens": 4}))
    torch.save(state, folder / "consolidated.pth")
    return state


def write_sheared_llama(directory: Path, config: dict, narrower: int, vocab_size: int) -> dict:
    """princeton-nlp/Sheared-LLaMA-2.7B: two files of torch.save with an index, inv_freq in every layer.

    Returns:
        The state dict.
    """
    config = {**config, "vocab_size": vocab_size}
    for name in ("hidden_size", "intermediate_size"):
        config[name] //= narrower
    D, F, L = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    state = _llama_state(D, F, L, vocab_size, np.float32)
    half = D // config["num_attention_heads"] // 2
    for i in range(L):
        state[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(half)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    weight_map = {}
    for shard, names in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        file = f"pytorch_model-0000{shard}-of-00002.bin"
        torch.save({name: state[name] for name in names}, directory / file)
        weight_map |= dict.fromkeys(names, file)
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return state


def write_starling(directory: Path, dim: int, n_layers: int, n_heads: int, vocab_size: int) -> dict:
    """berkeley-nest/Starling-RM-7B-alpha: bfloat16, the backbone twice and a value head, no tokenizer.

    Returns:
        The state dict.
    """
    inner = _llama_state(dim, 3 * dim, n_layers, vocab_size, ml_dtypes.bfloat16)
    state = {f"model.{name}": tensor for name, tensor in inner.items()}
    state |= {
        f"transformer.{name.removeprefix('model.')}": tensor
        for name, tensor in inner.items()
        if name.startswith("model.")
    }
    state["v_head.weight"] = torch.linspace(-1, 1, dim).reshape(1, dim).bfloat16()
    directory.mkdir(parents=True)
    config = {"model_type": "llama", "architectures": ["LLMForSequenceRegression"], "hidden_act": "silu"}
    config |= {"hidden_size": dim, "intermediate_size": 3 * dim, "num_hidden_layers": n_layers, "rms_norm_eps": 1e-5}
    config |= {"num_attention_heads": n_heads, "num_key_value_heads": n_heads, "vocab_size": vocab_size}
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    torch.save(state, directory / "pytorch_model.bin")
    return state


def write_llama(directory: Path, vocab_size: int, ffn_dim: int = 43) -> None:
    """Any Hugging Face Llama: a narrow one with grouped-query attention, in two safetensors files with an index."""
    state = _llama_state(24, ffn_dim, 3, vocab_size, np.float32, key_value_dim=8)
    config = {"model_type": "llama", "hidden_size": 24, "intermediate_size": ffn_dim, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": vocab_size}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    weight_map = {}
    for shard, names in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        file = f"model-0000{shard}-of-00002.safetensors"
        safetensors.torch.save_file({name: state[name] for name in names}, directory / file)
        weight_map |= dict.fromkeys(names, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _llama_state(D: int, F: int, L: int, V: int, dtype, key_value_dim: int | None = None) -> dict:
    rng = np.random.default_rng(1)
    as_torch = torch.bfloat16 if dtype is ml_dtypes.bfloat16 else torch.float32
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape, np.float32) * shape[-1] ** -0.5).to(as_torch)
    state = {"model.embed_tokens.weight": draw(V, D), "model.norm.weight": draw(D)}
    for i in range(L):
        block = {f"self_attn.{name}_proj": (D, D) for name in "qo"}
        block |= {f"self_attn.{name}_proj": (key_value_dim or D, D) for name in "kv"}
        block |= {"mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
        block |= {"input_layernorm": (D,), "post_attention_layernorm": (D,)}
        state |= {f"model.layers.{i}.{name}.weight": draw(*shape) for name, shape in block.items()}
    return state | {"lm_head.weight": draw(V, D)}
