"""Small directories that look as the big models do when they are published: names, layouts and files are theirs.

Each function makes a directory and returns the state dict that it holds.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch


def write_multi_token(repository: Path, keys: dict[str, list[int]], narrower: int, vocab_size: int) -> dict:
    """facebook/multi-token-prediction: 7B_1T_4/consolidated.pth and params.json, the tokenizer beside the folder.

    `keys` are the shapes of the real checkpoint; its widths are divided by `narrower`.
    """
    sizes = {32000: vocab_size, 4096: 4096 // narrower, 11008: 11008 // narrower}
    draw = _draw(0, torch.float32)
    state = {name: draw(*(sizes[size] for size in shape)) for name, shape in keys.items()}
    params = {"dim": 4096 // narrower, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "multiple_of": 256 // narrower}
    params |= {"ffn_dim_multiplier": 1.0, "norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": vocab_size}
    folder = repository / "7B_1T_4"
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params | {"n_future_tokens": 4}))
    torch.save(state, folder / "consolidated.pth")
    return state


def write_sheared_llama(directory: Path, config: dict, narrower: int, vocab_size: int) -> dict:
    """princeton-nlp/Sheared-LLaMA-2.7B: two files of torch.save with an index, inv_freq in every layer."""
    config = {**config, "vocab_size": vocab_size}
    for name in ("hidden_size", "intermediate_size"):
        config[name] //= narrower
    state = _llama_state(config, torch.float32)
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    for i in range(config["num_hidden_layers"]):
        state[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(half)
    _write_shards(directory, config, state, "pytorch_model", "bin", torch.save)
    return state


def write_starling(directory: Path, dim: int, n_layers: int, n_heads: int, vocab_size: int) -> dict:
    """berkeley-nest/Starling-RM-7B-alpha: bfloat16, the backbone twice and a value head, no tokenizer."""
    config = {"model_type": "llama", "architectures": ["LLMForSequenceRegression"], "hidden_act": "silu"}
    config |= {"hidden_size": dim, "intermediate_size": 3 * dim, "num_hidden_layers": n_layers, "rms_norm_eps": 1e-5}
    config |= {"num_attention_heads": n_heads, "num_key_value_heads": n_heads, "vocab_size": vocab_size}
    inner = _llama_state(config, torch.bfloat16)
    backbone = {name.removeprefix("model."): tensor for name, tensor in inner.items() if name.startswith("model.")}
    state = {f"model.{name}": tensor for name, tensor in inner.items()}
    state |= {f"transformer.{name}": tensor for name, tensor in backbone.items()}
    state["v_head.weight"] = torch.linspace(-1, 1, dim).reshape(1, dim).bfloat16()
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    torch.save(state, directory / "pytorch_model.bin")
    return state


def write_llama(directory: Path, vocab_size: int, ffn_dim: int = 43) -> dict:
    """Any Hugging Face Llama: a narrow one with grouped-query attention, in two safetensors files with an index."""
    config = {"model_type": "llama", "hidden_size": 24, "intermediate_size": ffn_dim, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": vocab_size}
    state = _llama_state(config, torch.float32)
    _write_shards(directory, config, state, "model", "safetensors", safetensors.torch.save_file)
    return state


def _write_shards(directory: Path, config: dict, state: dict, stem: str, ending: str, save) -> None:
    """The config, two weight files and their index."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    weight_map = {}
    for shard, names in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        file = f"{stem}-0000{shard}-of-00002.{ending}"
        save({name: state[name] for name in names}, directory / file)
        weight_map |= dict.fromkeys(names, file)
    (directory / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _llama_state(config: dict, dtype: torch.dtype) -> dict:
    D, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    K = D // config["num_attention_heads"] * config["num_key_value_heads"]
    draw = _draw(1, dtype)
    block = {"self_attn.q_proj": (D, D), "self_attn.k_proj": (K, D), "self_attn.v_proj": (K, D)}
    block |= {"self_attn.o_proj": (D, D), "mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
    block |= {"input_layernorm": (D,), "post_attention_layernorm": (D,)}
    state = {"model.embed_tokens.weight": draw(V, D), "model.norm.weight": draw(D)}
    for i in range(config["num_hidden_layers"]):
        state |= {f"model.layers.{i}.{name}.weight": draw(*shape) for name, shape in block.items()}
    return state | {"lm_head.weight": draw(V, D)}


def _draw(seed: int, dtype: torch.dtype):
    """A function that makes a tensor of some shape, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return lambda *shape: torch.from_numpy(rng.standard_normal(shape, np.float32) * shape[-1] ** -0.5).to(dtype)
