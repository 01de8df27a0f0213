"""Random models written the way Meta and Hugging Face write them, without any code of the converters."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.numpy

from wmtp_jax.model import ModelConfig

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
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
OUTSIDE = {  # Embeddings, norm and output matrix.
    "meta": ("tok_embeddings.weight", "norm.weight", "output.weight"),
    "hf": ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
}
FILES = {"meta": ("params.json", "consolidated", "pth"), "hf": ("config.json", "model", "bin")}


def small(**changes) -> ModelConfig:
    """Grouped-query attention, odd sizes, a feed-forward width that no formula gives."""
    numbers = {"dim": 24, "n_layers": 5, "n_heads": 6, "n_kv_heads": 2, "vocab_size": 37, "ffn_dim": 43}
    return ModelConfig(**(numbers | {"n_future_tokens": 1} | changes))


def random_state(layout: str, config: ModelConfig, dtype="float32", output="untied") -> dict[str, np.ndarray]:
    """A state dict; its output matrix is "untied", a "copy" of the embeddings, or "absent"."""
    if layout == "meta":
        blocks = [f"layers.{i}" for i in range(config.n_trunk_layers + 1)]
        blocks += [f"extra_heads.{i}" for i in range(config.n_future_tokens - 1)]
    else:
        blocks = [f"model.layers.{i}" for i in range(config.n_layers)]
    embeddings, norm, last = OUTSIDE[layout]
    shapes = {embeddings: (config.vocab_size, config.dim), norm: (config.dim,)}
    column = ("meta", "hf").index(layout)
    shapes |= {f"{block}.{names[column]}.weight": shape(config) for block in blocks for names, shape in BLOCK.items()}
    shapes |= {last: shapes[embeddings]} if output == "untied" else {}
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(shape, np.float32).astype(DTYPES[dtype]) for name, shape in shapes.items()}
    return state | ({last: state[embeddings].copy()} if output == "copy" else {})


def config_file(layout: str, config: ModelConfig, **changes) -> dict:
    """The params.json or config.json of a config."""
    if layout == "meta":
        names = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "n_future_tokens")
        record = {name: getattr(config, name) for name in names} | {"norm_eps": 1e-5, "rope_theta": 10000.0}
    else:
        record = {"model_type": "llama", "hidden_size": config.dim, "intermediate_size": config.ffn_dim}
        record |= {"num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads}
        record |= {"num_key_value_heads": config.n_kv_heads, "vocab_size": config.vocab_size, "hidden_act": "silu"}
        record |= {"rms_norm_eps": 1e-6, "tie_word_embeddings": config.tie_embeddings, "bos_token_id": 1}
    return record | changes


def write_model(directory: Path, layout: str, config: ModelConfig, state: dict, kind="single", **changes) -> Path:
    """Writes a state dict as single or sharded safetensors, or by torch.save, with its config beside it."""
    directory.mkdir(parents=True)
    config_name, stem, ending = FILES[layout]
    (directory / config_name).write_text(json.dumps(config_file(layout, config, **changes)))
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
        import torch

        as_torch = {name: to_torch_tensor(torch, value) for name, value in state.items()}
        torch.save(as_torch, directory / f"{'pytorch_model' if layout == 'hf' else stem}.{ending}")
    return directory


def to_torch_tensor(torch, values: np.ndarray):
    """The same bits as a torch tensor."""
    if values.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(values.copy())
