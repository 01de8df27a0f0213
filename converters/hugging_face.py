"""Hugging Face's layout of Llama: config.json and model.safetensors, single, sharded, or as pytorch_model.bin.

A Llama is an MTP model with one head: the last layer is head 1. Query and key rows of each head are in half-split
RoPE order (first all even components, then all odd ones), in ours they are interleaved.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.json_file import Fields
from converters.layout import Layout, Place
from converters.slots import HALF_SPLIT, PLAIN, Slot
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling

_KEYS = {
    "tok_embeddings.embedding": "model.embed_tokens.weight",
    "norm.scale": "model.norm.weight",
    "output.kernel": "lm_head.weight",
}
_BLOCK_KEYS = {
    "attention.wq": ("self_attn.q_proj.weight", HALF_SPLIT),
    "attention.wk": ("self_attn.k_proj.weight", HALF_SPLIT),
    "attention.wv": ("self_attn.v_proj.weight", PLAIN),
    "attention.wo": ("self_attn.o_proj.weight", PLAIN),
    "feed_forward.w1": ("mlp.gate_proj.weight", PLAIN),
    "feed_forward.w2": ("mlp.down_proj.weight", PLAIN),
    "feed_forward.w3": ("mlp.up_proj.weight", PLAIN),
    "attention_norm.scale": ("input_layernorm.weight", PLAIN),
    "ffn_norm.scale": ("post_attention_layernorm.weight", PLAIN),
}


def _place(config: ModelConfig, slot: Slot) -> Place:
    if slot.layer is None:
        return Place(_KEYS[slot.leaf], PLAIN)
    stack, _, name = slot.leaf.partition(".")
    key, form = _BLOCK_KEYS[name]
    layer = slot.layer if stack == "trunk" else config.n_trunk_layers + slot.layer
    return Place(f"model.layers.{layer}.{key}", form)


def _read_config(record: dict, where: str, _shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool]:
    fields = Fields(record, where)
    _expect(where, "model_type", fields.text("model_type"), "llama", "other architectures are not read")
    _expect(where, "hidden_act", fields.text("hidden_act", "silu"), "silu", "the feed-forward here is SwiGLU")
    for name in ("attention_bias", "mlp_bias"):
        _expect(where, name, fields.flag(name, False), False, "linear layers here have no bias")
    if "quantization_config" in fields:
        raise ConverterError(f"{where}: has a quantization_config; take the unquantised checkpoint instead")
    theta, scaling = _read_rope(fields)
    try:
        config = ModelConfig(
            dim=fields.required("hidden_size"),
            n_layers=fields.required("num_hidden_layers"),
            n_heads=fields.required("num_attention_heads"),
            n_kv_heads=fields.integer("num_key_value_heads"),
            vocab_size=fields.required("vocab_size"),
            head_dim=fields.integer("head_dim"),
            ffn_dim=fields.required("intermediate_size"),
            norm_eps=fields.number("rms_norm_eps", 1e-6),
            rope_theta=theta,
            rope_scaling=scaling,
            max_seq_len=fields.integer("max_position_embeddings", 2048),
        )
    except ModelConfigError as error:
        raise ConverterError(f"{where}: {error}") from error
    return config, fields.flag("tie_word_embeddings", False)


def _expect(where, name, value, expected, reason):
    if value != expected:
        raise ConverterError(f"{where}: the field {name!r} is {value!r}; only {expected!r} is read ({reason})")


def _read_rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    """Base and scaling from rope_theta + rope_scaling, or from rope_parameters of transformers 5."""
    theta = fields.number("rope_theta", 1e4)
    rope = fields.object("rope_parameters") or fields.object("rope_scaling")
    if rope is None:
        return theta, None
    theta = rope.number("rope_theta", theta)
    kind = rope.text("rope_type") or rope.text("type", "default")
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ConverterError(f"{rope.where}: the rope type is {kind!r}; only 'default' and 'llama3' are read")
    numbers = {}
    for field in dataclasses.fields(RopeScaling):
        whole = field.name == "original_max_position_embeddings"
        numbers[field.name] = rope.integer(field.name) if whole else rope.number(field.name)
        if numbers[field.name] is None:
            raise ConverterError(f"{rope.where}: the field {field.name!r} is missing; llama3 scaling needs it")
    return theta, RopeScaling(**numbers)


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
    keeps_leaves=False,
    tied_name="lm_head.weight",
    writes_tied_copy=False,
    ignored=re.compile(r".*\.rotary_emb\.inv_freq"),
    place=_place,
    read_config=_read_config,
    write_config=_write_config,
)
