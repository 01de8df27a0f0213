"""What a model or a planned conversion is, in lines for people."""

import math

from converters.checkpoint import Checkpoint
from converters.errors import fold
from converters.plan import Plan


def describe_checkpoint(checkpoint: Checkpoint) -> list[str]:
    """Layout, architecture, size, and every tensor with its leaf, layers folded."""
    config = checkpoint.config
    tensors = checkpoint.tensors.values()
    count = sum(math.prod(shape) for shape in checkpoint.shapes.values())
    dtypes = ", ".join(sorted({tensor.type_name for tensor in tensors}))
    lines = [
        f"{checkpoint.directory}: {checkpoint.layout.title} layout, weights in {checkpoint.weights.name}",
        f"  {count:,} parameters in {len(tensors)} tensors of {dtypes}, {sum(t.nbytes for t in tensors) / 1e9:.3f} GB",
        f"  trunk layers {config.n_trunk_layers}, heads {config.n_future_tokens}, dim {config.dim}, "
        f"query heads {config.n_heads}, key/value heads {config.n_kv_heads}, head width {config.head_dim}, "
        f"feed-forward {config.ffn_dim}, vocabulary {config.vocab_size}",
        f"  rope theta {config.rope_theta:g}{', llama3 scaling' if config.rope_scaling else ''}, "
        f"norm eps {config.norm_eps:g}, embeddings {'tied' if config.tie_embeddings else 'untied'}"
        f"{', stored twice' if checkpoint.origin.tied_copy else ''}",
    ]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for slot, place in checkpoint.places.items():
        tensor = checkpoint.tensors[place.tensor]
        shape = str(list(tensor.shape))
        names = rows.setdefault((slot.leaf, shape, place.form), [])
        if place.tensor not in names:
            names.append(place.tensor)
    table = [(name, shape, leaf, form) for (leaf, shape, form), names in rows.items() for name in fold(names)]
    if checkpoint.origin.tied_copy and checkpoint.layout.tied_name in checkpoint.tensors:
        shape = str(list(checkpoint.tensors[checkpoint.layout.tied_name].shape))
        table.append((checkpoint.layout.tied_name, shape, "", "copy of the embeddings"))
    lines += ["", *_columns([("tensor", "shape", "leaf", "stored"), *table])]
    if checkpoint.value_head is not None:
        lines.append(f"value head: {checkpoint.value_head.name} {list(checkpoint.value_head.shape)}")
    if checkpoint.ignored:
        lines.append(f"ignored by name: {', '.join(fold(checkpoint.ignored))}")
    return lines


def describe_plan(source: Checkpoint, plan: Plan) -> list[str]:
    """The map of a conversion: each target tensor with what it comes from, layers folded."""
    rows: dict[tuple[str, str, str], tuple[dict, dict]] = {}
    tensors = plan.tensors
    for name, pairs in plan.pieces.items():
        leaf = pairs[0][1].leaf
        tensor = tensors[name]
        key = (leaf, str(list(tensor.shape)), tensor.dtype.name)
        written, read = rows.setdefault(key, ({}, {}))
        written[name] = None
        for from_slot, _ in pairs:
            read[source.places[from_slot].tensor] = None
    table = [
        (" + ".join(fold(written)), shape, dtype, " + ".join(fold(read)))
        for (_, shape, dtype), (written, read) in rows.items()
    ]
    files = list(plan.files)
    where = files[0] if len(files) == 1 else f"{len(files)} files, {files[0]} to the last"
    return [
        *_columns([("written", "shape", "dtype", "from"), *table]),
        "",
        f"{len(tensors)} tensors, {plan.nbytes / 1e9:.3f} GB in {where}, and {plan.target.config_names[0]}",
        *[f"note: {note}" for note in plan.notes],
    ]


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
