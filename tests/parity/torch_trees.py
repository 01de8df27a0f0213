"""Our param tree as torch state dicts, written out plainly and independent of the converters.

Gradients are trees of the same shapes, so the same functions map them.
"""

import numpy as np
import torch


def _tensor(x) -> torch.Tensor:
    return torch.from_numpy(np.array(x, np.float32))


def _linear(kernel, n_in: int) -> torch.Tensor:
    """A kernel with n_in leading input axes as torch's [out, in]."""
    x = np.asarray(kernel)
    return _tensor(x.reshape(int(np.prod(x.shape[:n_in])), -1).T)


def _block(block: dict, i: int) -> dict[str, torch.Tensor]:
    attention = {f"attention.{name}.weight": _linear(block["attention"][name][i], 1) for name in ("wq", "wk", "wv")}
    feed_forward = {f"feed_forward.{n}.weight": _linear(block["feed_forward"][n][i], 1) for n in ("w1", "w2", "w3")}
    norms = {f"{name}.weight": _tensor(block[name]["scale"][i]) for name in ("attention_norm", "ffn_norm")}
    return {**attention, "attention.wo.weight": _linear(block["attention"]["wo"][i], 2), **feed_forward, **norms}


def _outside_layers(params: dict) -> dict[str, torch.Tensor]:
    state = {"tok_embeddings.weight": _tensor(params["tok_embeddings"]["embedding"])}
    state["norm.weight"] = _tensor(params["norm"]["scale"])
    if "output" in params:
        state["output.weight"] = _linear(params["output"]["kernel"], 1)
    return state


def meta_state_dict(params: dict) -> dict[str, torch.Tensor]:
    """Meta's names: layers.0 .. layers.{L-1} the trunk, layers.{L} head 1, extra_heads.* heads 2..N."""
    n_trunk = params["trunk"]["ffn_norm"]["scale"].shape[0]
    n_heads = params["heads"]["ffn_norm"]["scale"].shape[0]
    layers = {f"layers.{i}": _block(params["trunk"], i) for i in range(n_trunk)}
    layers[f"layers.{n_trunk}"] = _block(params["heads"], 0)
    layers |= {f"extra_heads.{k - 1}": _block(params["heads"], k) for k in range(1, n_heads)}
    state = _outside_layers(params)
    return state | {f"{layer}.{name}": x for layer, block in layers.items() for name, x in block.items()}


def _half_split(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head from the order (x0, x1), (x2, x3), ... to x0, x2, ..., x1, x3, ...: Hugging Face's RoPE."""
    return weight.view(-1, head_dim // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


_HF_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def hugging_face_state_dict(params: dict, head: int) -> dict[str, torch.Tensor]:
    """A plain Llama in Hugging Face's layout: the trunk, and as its last layer head number `head` (from 0)."""
    head_dim = params["trunk"]["attention"]["wq"].shape[-1]
    n_trunk = params["trunk"]["ffn_norm"]["scale"].shape[0]
    outside = _outside_layers(params)
    state = {
        "model.embed_tokens.weight": outside["tok_embeddings.weight"],
        "model.norm.weight": outside["norm.weight"],
        "lm_head.weight": outside.get("output.weight", outside["tok_embeddings.weight"]),
    }
    blocks = [_block(params["trunk"], i) for i in range(n_trunk)] + [_block(params["heads"], head)]
    for i, block in enumerate(blocks):
        for name, x in block.items():
            x = _half_split(x, head_dim) if name in ("attention.wq.weight", "attention.wk.weight") else x
            state[f"model.layers.{i}.{_HF_NAMES[name.removesuffix('.weight')]}.weight"] = x
    return state
