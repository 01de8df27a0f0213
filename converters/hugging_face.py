"""Hugging Face's layout of Llama: config.json and model.safetensors, single, sharded, or as pytorch_model.bin.

A Llama is an MTP model with one head: the last layer is head 1. Query and key rows of each head are in half-split
RoPE order (first all even components, then all odd ones), in ours they are interleaved.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.layout import AS_IS, ROPE_PERMUTED, TRANSPOSED, Fields, Layout
from wmtp_jax.errors import shown
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling

_TABLE = {
    # leaf: (tensor, transform)
    "tok_embeddings.embedding": ("model.embed_tokens.weight", AS_IS),
    "attention.wq": ("self_attn.q_proj.weight", ROPE_PERMUTED),
    "attention.wk": ("self_attn.k_proj.weight", ROPE_PERMUTED),
    "attention.wv": ("self_attn.v_proj.weight", TRANSPOSED),
    "attention.wo": ("self_attn.o_proj.weight", TRANSPOSED),
    "feed_forward.w1": ("mlp.gate_proj.weight", TRANSPOSED),
    "feed_forward.w2": ("mlp.down_proj.weight", TRANSPOSED),
    "feed_forward.w3": ("mlp.up_proj.weight", TRANSPOSED),
    "attention_norm.scale": ("input_layernorm.weight", AS_IS),
    "ffn_norm.scale": ("post_attention_layernorm.weight", AS_IS),
    "norm.scale": ("model.norm.weight", AS_IS),
    "output.kernel": ("lm_head.weight", TRANSPOSED),
}


def _block(config: ModelConfig, stack: str, layer: int) -> str:
    return f"model.layers.{layer if stack == 'trunk' else config.n_trunk_layers + layer}"


def _read_config(record: dict, where: str, _shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool]:
    fields = Fields(record, where)
    _expect(where, "model_type", fields.get("model_type", str), "llama", "other architectures are not read")
    _expect(where, "hidden_act", fields.get("hidden_act", str, "silu"), "silu", "the feed-forward here is SwiGLU")
    for name in ("attention_bias", "mlp_bias"):
        _expect(where, name, fields.get(name, bool, False), False, "linear layers here have no bias")
    if record.get("quantization_config") is not None:
        raise ConverterError(f"{where}: has a quantization_config; take the unquantised checkpoint instead")
    theta, scaling = _read_rope(fields)
    try:
        config = ModelConfig(
            dim=fields.required("hidden_size"),
            n_layers=fields.required("num_hidden_layers"),
            n_heads=fields.required("num_attention_heads"),
            n_kv_heads=fields.get("num_key_value_heads", int),
            vocab_size=fields.required("vocab_size"),
            head_dim=fields.get("head_dim", int),
            ffn_dim=fields.required("intermediate_size"),
            norm_eps=fields.get("rms_norm_eps", float, 1e-6),
            rope_theta=theta,
            rope_scaling=scaling,
            max_seq_len=fields.get("max_position_embeddings", int, 2048),
        )
    except ModelConfigError as error:
        raise ConverterError(f"{where}: {error}") from error
    return config, fields.get("tie_word_embeddings", bool, False)


def _expect(where, name, value, expected, reason):
    if value != expected:
        raise ConverterError(f"{where}: the field {name!r} is {shown(value)}; only {expected!r} is read ({reason})")


def _read_rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    """Base and scaling from rope_theta + rope_scaling, or from rope_parameters of transformers 5."""
    theta = fields.get("rope_theta", float, 1e4)
    name = "rope_parameters" if fields.get("rope_parameters", dict) else "rope_scaling"
    record = fields.get(name, dict)
    if record is None:
        return theta, None
    rope = Fields(record, f"{fields.where}, {name}")
    theta = rope.get("rope_theta", float, theta)
    kind = rope.get("rope_type", str) or rope.get("type", str, "default")
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ConverterError(f"{rope.where}: the rope type is {shown(kind)}; only 'default' and 'llama3' are read")
    values = {field.name: rope.get(field.name, field.type) for field in dataclasses.fields(RopeScaling)}
    for name, value in values.items():
        if value is None:
            raise ConverterError(f"{rope.where}: the field {name!r} is missing; llama3 scaling needs it")
    return theta, RopeScaling(**values)


def _write_config(config: ModelConfig, base: dict, dtype: str, _equal_output: bool) -> dict[str, Any]:
    if config.n_future_tokens != 1:
        raise ConverterError(f"a Hugging Face Llama has one head, this model has {config.n_future_tokens}; keep head 1")
    defaults = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
    record = {
        **defaults,
        **base,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype" if "dtype" in base else "torch_dtype": dtype,
    }
    scaling = {} if config.rope_scaling is None else {"rope_type": "llama3", **dataclasses.asdict(config.rope_scaling)}
    if "rope_parameters" in base:
        record["rope_parameters"] = {"rope_type": "default", **scaling, "rope_theta": config.rope_theta}
    else:
        record |= {"rope_theta": config.rope_theta, "rope_scaling": scaling or None}
    return record


HUGGING_FACE = Layout(
    name="hf",
    title="Hugging Face",
    config_names=("config.json", "hf_config.json"),
    weight_names=(
        "model.safetensors.index.json",
        "model.safetensors",
        "hf_model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
    ),
    stem="model",
    tied_name="lm_head.weight",
    writes_tied_copy=False,
    ignored=re.compile(r".*\.rotary_emb\.inv_freq"),
    table=_TABLE,
    block=_block,
    read_config=_read_config,
    write_config=_write_config,
)
