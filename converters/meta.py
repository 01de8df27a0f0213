"""Meta's layout: params.json and a flat state dict, as in facebook/multi-token-prediction and Llama releases.

`layers` has one entry more than the trunk: its last one is head 1, the next-token head. `extra_heads` are heads 2..N.
All heads read the output of the last trunk layer. Query and key rows are in interleaved RoPE order, as in our tree.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from converters.errors import ConverterError
from converters.json_file import Fields
from converters.layout import Layout, Place
from converters.slots import PLAIN, Slot
from wmtp_jax.model import ModelConfig, ModelConfigError, RopeScaling, derived_ffn_dim

_KEYS = {
    "tok_embeddings.embedding": "tok_embeddings.weight",
    "norm.scale": "norm.weight",
    "output.kernel": "output.weight",
}
_BLOCK_KEYS = {
    "attention.wq": "attention.wq.weight",
    "attention.wk": "attention.wk.weight",
    "attention.wv": "attention.wv.weight",
    "attention.wo": "attention.wo.weight",
    "feed_forward.w1": "feed_forward.w1.weight",
    "feed_forward.w2": "feed_forward.w2.weight",
    "feed_forward.w3": "feed_forward.w3.weight",
    "attention_norm.scale": "attention_norm.weight",
    "ffn_norm.scale": "ffn_norm.weight",
}

_DEFAULT_SEQ_LEN = 2048  # Of Meta's ModelArgs; their params.json leave it out.


def _place(config: ModelConfig, slot: Slot) -> Place:
    if slot.layer is None:
        return Place(_KEYS[slot.leaf], PLAIN)
    stack, _, name = slot.leaf.partition(".")
    if stack == "trunk":
        block = f"layers.{slot.layer}"
    elif slot.layer == 0:
        block = f"layers.{config.n_trunk_layers}"
    else:
        block = f"extra_heads.{slot.layer - 1}"
    return Place(f"{block}.{_BLOCK_KEYS[name]}", PLAIN)


def _read_config(record: dict, where: str, shapes: Mapping[str, tuple]) -> tuple[ModelConfig, bool | None]:
    fields = Fields(record, where)
    vocab_size = fields.integer("vocab_size", -1)
    if vocab_size == -1:
        vocab_size = shapes.get("tok_embeddings.weight", (0,))[0]
    multiple_of, multiplier = fields.integer("multiple_of"), fields.number("ffn_dim_multiplier")
    w1 = shapes.get("layers.0.feed_forward.w1.weight", ())
    ffn_dim = w1[0] if len(w1) == 2 else None
    spelled_ffn_dim = fields.integer("ffn_dim")
    tied = fields.flag("tie_embeddings")
    try:
        config = ModelConfig(
            dim=fields.required("dim"),
            n_layers=fields.required("n_layers"),
            n_heads=fields.required("n_heads"),
            n_kv_heads=fields.integer("n_kv_heads"),
            vocab_size=vocab_size,
            n_future_tokens=fields.integer("n_future_tokens", 1),
            head_dim=fields.integer("head_dim"),
            ffn_dim=ffn_dim or spelled_ffn_dim,
            multiple_of=multiple_of or 256,
            ffn_dim_multiplier=multiplier,
            norm_eps=fields.number("norm_eps", 1e-5),
            rope_theta=fields.number("rope_theta", 1e4),
            rope_scaling=_read_scaling(fields),
            max_seq_len=fields.integer("max_seq_len", _DEFAULT_SEQ_LEN),
        )
    except ModelConfigError as error:
        raise ConverterError(f"{where}: {error}") from error
    fields.integer("max_batch_size")  # Of Meta's inference code; says nothing about the model.
    if fields.unread:
        raise ConverterError(
            f"{where}: the field {min(fields.unread)!r} is unknown, so the model may not be a plain Llama; "
            "remove it if it changes nothing"
        )
    if ffn_dim is not None:
        _check_ffn_dim(where, ffn_dim, spelled_ffn_dim, config.dim, multiple_of, multiplier)
    return config, tied


def _check_ffn_dim(where, found, spelled, dim, multiple_of, multiplier) -> None:
    """The rows of w1 are what params.json spells out, or what Meta's formula gives when it holds multiple_of."""
    if spelled is not None:
        expected, reason = spelled, "ffn_dim"
    elif multiple_of is not None:
        expected = derived_ffn_dim(dim, multiple_of, multiplier)
        reason = f"multiple_of {multiple_of} and ffn_dim_multiplier {multiplier}"
    else:
        return
    if expected != found:
        raise ConverterError(
            f"{where}: {reason} give a feed-forward width of {expected}, but layers.0.feed_forward.w1.weight has "
            f"{found} rows; correct params.json"
        )


def _read_scaling(fields: Fields) -> RopeScaling | None:
    """`use_scaled_rope` with the two factors of Meta's code; `rope_scaling` spells out all four of ours."""
    spelled, used = fields.object("rope_scaling"), fields.flag("use_scaled_rope", False)
    factor, high = fields.number("rope_scaling_factor"), fields.number("rope_high_freq_factor")
    if not used and spelled is None:
        return None
    default = RopeScaling()
    if spelled is None:
        return RopeScaling(factor=factor or default.factor, high_freq_factor=high or default.high_freq_factor)
    names = [field.name for field in dataclasses.fields(RopeScaling)]
    if unknown := spelled.unread - set(names):
        raise ConverterError(f"{spelled.where}: the field {min(unknown)!r} is unknown; expected {', '.join(names)}")
    numbers = {name: spelled.number(name, getattr(default, name)) for name in names[:3]}
    positions = spelled.integer(names[3], default.original_max_position_embeddings)
    return RopeScaling(**numbers, original_max_position_embeddings=positions)


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
    keeps_leaves=False,
    tied_name="output.weight",
    writes_tied_copy=True,
    ignored=re.compile(r"rope\.freqs"),
    place=_place,
    read_config=_read_config,
    write_config=_write_config,
)
