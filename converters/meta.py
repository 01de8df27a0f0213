"""Meta's layout: params.json and a flat state dict, as in facebook/multi-token-prediction and Llama releases.

`layers` has one entry more than the trunk: its last one is head 1, the next-token head. `extra_heads` are heads 2..N.
All heads read the output of the last trunk layer. Query and key rows are in interleaved RoPE order, as in our tree.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.layout import AS_IS, TRANSPOSED, Fields, Layout
from wmtp_jax.errors import shown
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling, derived_ffn_dim

_TABLE = {
    # leaf: (tensor, transform)
    "tok_embeddings.embedding": ("tok_embeddings.weight", AS_IS),
    "attention.wq": ("attention.wq.weight", TRANSPOSED),
    "attention.wk": ("attention.wk.weight", TRANSPOSED),
    "attention.wv": ("attention.wv.weight", TRANSPOSED),
    "attention.wo": ("attention.wo.weight", TRANSPOSED),
    "feed_forward.w1": ("feed_forward.w1.weight", TRANSPOSED),
    "feed_forward.w2": ("feed_forward.w2.weight", TRANSPOSED),
    "feed_forward.w3": ("feed_forward.w3.weight", TRANSPOSED),
    "attention_norm.scale": ("attention_norm.weight", AS_IS),
    "ffn_norm.scale": ("ffn_norm.weight", AS_IS),
    "norm.scale": ("norm.weight", AS_IS),
    "output.kernel": ("output.weight", TRANSPOSED),
}

_DEFAULT_SEQ_LEN = 2048  # Of Meta's ModelArgs; their params.json leave it out.


def _block(config: ModelConfig, stack: str, layer: int) -> str:
    if stack == "trunk":
        return f"layers.{layer}"
    return f"layers.{config.n_trunk_layers}" if layer == 0 else f"extra_heads.{layer - 1}"


def _read_config(record: dict, where: str, shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool | None]:
    fields = Fields(record, where)
    vocab_size = fields.get("vocab_size", int, -1)
    if vocab_size == -1:
        vocab_size = shapes.get("tok_embeddings.weight", (0,))[0]
    multiple_of, multiplier = fields.get("multiple_of", int), fields.get("ffn_dim_multiplier", float)
    w1 = shapes.get("layers.0.feed_forward.w1.weight", ())
    ffn_dim = w1[0] if len(w1) == 2 else None
    spelled_ffn_dim = fields.get("ffn_dim", int)
    tied = fields.get("tie_embeddings", bool)
    try:
        config = ModelConfig(
            dim=fields.required("dim"),
            n_layers=fields.required("n_layers"),
            n_heads=fields.required("n_heads"),
            n_kv_heads=fields.get("n_kv_heads", int),
            vocab_size=vocab_size,
            n_future_tokens=fields.get("n_future_tokens", int, 1),
            head_dim=fields.get("head_dim", int),
            ffn_dim=ffn_dim or spelled_ffn_dim,
            multiple_of=multiple_of or 256,
            ffn_dim_multiplier=multiplier,
            norm_eps=fields.get("norm_eps", float, 1e-5),
            rope_theta=fields.get("rope_theta", float, 1e4),
            rope_scaling=_read_scaling(fields),
            max_seq_len=fields.get("max_seq_len", int, _DEFAULT_SEQ_LEN),
        )
    except ModelConfigError as error:
        raise ConverterError(f"{where}: {error}") from error
    fields.get("max_batch_size", int)  # Of Meta's inference code; says nothing about the model.
    if fields.unread:
        raise ConverterError(
            f"{where}: the field {shown(min(fields.unread))} is unknown, so the model may not be a plain Llama; "
            "remove it if it changes nothing"
        )
    expected = spelled_ffn_dim
    if spelled_ffn_dim is None and multiple_of is not None:
        expected = derived_ffn_dim(config.dim, multiple_of, multiplier)
    if None not in (ffn_dim, expected) and ffn_dim != expected:
        raise ConverterError(
            f"{where}: its fields (ffn_dim, or multiple_of and ffn_dim_multiplier) give a feed-forward width of "
            f"{expected}, but layers.0.feed_forward.w1.weight has {ffn_dim} rows; correct params.json"
        )
    return config, tied


def _read_scaling(fields: Fields) -> RopeScaling | None:
    """`use_scaled_rope` with the two factors of Meta's code; `rope_scaling` spells out all four of ours."""
    spelled, used = fields.get("rope_scaling", dict), fields.get("use_scaled_rope", bool, False)
    factor, high = fields.get("rope_scaling_factor", float), fields.get("rope_high_freq_factor", float)
    default = RopeScaling()
    if spelled is None:
        if not used:
            return None
        return RopeScaling(factor=factor or default.factor, high_freq_factor=high or default.high_freq_factor)
    scaling = Fields(spelled, f"{fields.where}, rope_scaling")
    kinds = {field.name: field.type for field in dataclasses.fields(RopeScaling)}
    values = {name: scaling.get(name, kind, getattr(default, name)) for name, kind in kinds.items()}
    if scaling.unread:
        name = shown(min(scaling.unread))
        raise ConverterError(f"{scaling.where}: the field {name} is unknown; expected {', '.join(kinds)}")
    return RopeScaling(**values)


def _write_config(config: ModelConfig, base: dict, _dtype: str, equal_output: bool) -> dict[str, Any]:
    multiple_of, multiplier = _ffn_fields(config)
    record = {
        **base,
        "dim": config.dim,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "vocab_size": config.vocab_size,
        "multiple_of": multiple_of,
        "ffn_dim_multiplier": multiplier,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "n_future_tokens": config.n_future_tokens,
    }
    if multiplier is None:
        del record["ffn_dim_multiplier"]
    # Words that Meta's files do not have are written only where the meaning would be lost without them.
    if "max_seq_len" in base or config.max_seq_len != _DEFAULT_SEQ_LEN:
        record["max_seq_len"] = config.max_seq_len
    if config.head_dim * config.n_heads != config.dim:
        record["head_dim"] = config.head_dim
    if config.rope_scaling is not None:
        record |= {"use_scaled_rope": True, "rope_scaling": dataclasses.asdict(config.rope_scaling)}
    if "ffn_dim" in base:
        record["ffn_dim"] = config.ffn_dim
    if equal_output or "tie_embeddings" in base:
        record["tie_embeddings"] = config.tie_embeddings
    return record


def _ffn_fields(config: ModelConfig) -> tuple[int, float | None]:
    """multiple_of and ffn_dim_multiplier from which Meta's formula gives exactly the model's width."""
    for multiple_of, multiplier in ((config.multiple_of, config.ffn_dim_multiplier), (256, None)):
        if derived_ffn_dim(config.dim, multiple_of, multiplier) == config.ffn_dim:
            return multiple_of, multiplier
    # Half a unit above the width, so that rounding down in the formula cannot land one below it.
    return 1, (config.ffn_dim + 0.5) / int(2 * 4 * config.dim / 3)


META = Layout(
    name="meta",
    title="Meta",
    config_names=("params.json",),
    weight_names=(
        "consolidated.safetensors.index.json",
        "consolidated.safetensors",
        "meta_model.safetensors",
        "consolidated.pth",
        "consolidated.00.pth",
    ),
    stem="consolidated",
    tied_name="output.weight",
    writes_tied_copy=True,
    ignored=re.compile(r"rope\.freqs"),
    table=_TABLE,
    block=_block,
    read_config=_read_config,
    write_config=_write_config,
)
