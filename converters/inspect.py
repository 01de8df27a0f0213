"""What a model or a planned conversion is, in lines for people, and whether its bytes are those that were written."""

import math
from collections.abc import Callable
from typing import NamedTuple

from converters.checkpoint import Checkpoint
from converters.errors import ConverterError, fold
from converters.output import MANIFEST, MANIFEST_FORMAT
from converters.plan import Plan
from wmtp_jax.errors import shown
from wmtp_jax.files import SUMS, check_digest, check_sums, is_inside
from wmtp_jax.jsonl import read_object


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
    rows: dict[tuple[str, str, str], dict[str, None]] = {}
    for weight, ref in checkpoint.refs.items():
        shape = str(list(checkpoint.tensors[ref.tensor].shape))
        rows.setdefault((weight.leaf, shape, ref.transform), {})[ref.tensor] = None
    table = [(name, shape, leaf, how) for (leaf, shape, how), names in rows.items() for name in fold(names)]
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
    for name, tensor in plan.tensors.items():
        pieces = plan.pieces[name]
        written, read = rows.setdefault((pieces[0][1].leaf, str(list(tensor.shape)), tensor.dtype.name), ({}, {}))
        written[name] = None
        read |= {source.refs[weight].tensor: None for weight, _ in pieces}
    joined = lambda names: " + ".join(fold(names))
    table = [(joined(written), shape, dtype, joined(read)) for (_, shape, dtype), (written, read) in rows.items()]
    first, *rest = plan.files
    where = f"{len(plan.files)} files, {first} to the last" if rest else first
    return [
        *_columns([("written", "shape", "dtype", "from"), *table]),
        "",
        f"{len(plan.tensors)} tensors, {plan.nbytes / 1e9:.3f} GB in {where}, and {plan.target.config_names[0]}",
        *[f"note: {note}" for note in plan.notes],
    ]


class Manifest(NamedTuple):
    """What manifest.json vouches for: file, dtype, shape and sha256 per tensor, and the digest per other file."""

    tensors: dict[str, dict]
    files: dict[str, str]


def read_manifest(checkpoint: Checkpoint) -> Manifest | None:
    """The manifest of an opened directory; None where there is none of ours.

    Raises:
        ConverterError: it is malformed, or lists other tensors than the weights hold.
    """
    path = checkpoint.directory / MANIFEST
    record = read_object(path) if path.exists() else {}
    if record.get("format") != MANIFEST_FORMAT:
        return None
    manifest = Manifest(record.get("tensors"), record.get("files"))
    sound = all(isinstance(part, dict) for part in manifest)
    if not sound or not all(isinstance(entry, dict) for entry in manifest.tensors.values()):
        raise ConverterError(f"{path}: has no 'tensors' and 'files'; expected a manifest of this converter")
    if outside := [name for name in manifest.files if not is_inside(name)]:
        raise ConverterError(f"{path}: names {shown(outside[0])}; expected files in the directory where it lies")
    if different := set(manifest.tensors) ^ set(checkpoint.tensors):
        names = shown(", ".join(fold(sorted(different))[:5]), 300)
        raise ConverterError(f"{path}: lists other tensors than the weights hold ({names}); convert the model again")
    return manifest


def verify(checkpoint: Checkpoint, advance: Callable[[int], None] = lambda nbytes: None) -> list[str]:
    """Reads every byte that manifest.json or SHA256SUMS vouches for; `advance` is told the bytes of each tensor.

    Returns:
        Sentences about what was found to be right.

    Raises:
        ConverterError: names the tensors that differ; also when there is nothing to compare with.
        FileError: names the file that is missing or differs.
    """
    directory, findings = checkpoint.directory, []
    if (directory / MANIFEST).exists():
        manifest = verify_tensors(checkpoint, advance)
        for name, digest in manifest.files.items():
            check_digest(directory / name, digest, MANIFEST)
        findings.append(f"{len(manifest.tensors)} tensors and {len(manifest.files)} files agree with {MANIFEST}")
    if (directory / SUMS).exists():
        findings.append(f"{len(check_sums(directory))} files agree with {SUMS}")
    if not findings:
        raise ConverterError(
            f"{directory}: has neither {MANIFEST} nor {SUMS}, so there is no digest to compare with; "
            "'inspect' checks names and shapes alone"
        )
    return findings


def verify_tensors(checkpoint: Checkpoint, advance: Callable[[int], None] = lambda nbytes: None) -> Manifest:
    """Compares every tensor with manifest.json, which is returned.

    Raises:
        ConverterError: there is no manifest, or tensors differ from it in dtype, shape or bytes.
    """
    manifest = read_manifest(checkpoint)
    if manifest is None:
        raise ConverterError(f"{checkpoint.directory}: has no {MANIFEST} of this converter to compare with")
    wrong = []
    for name, tensor in checkpoint.tensors.items():
        listed = manifest.tensors[name]
        found = {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "sha256": tensor.sha256()}
        wrong += [(name, field, value) for field, value in found.items() if listed.get(field) != value][:1]
        advance(tensor.nbytes)
    if wrong:
        name, field, value = wrong[0]
        listed, names = shown(manifest.tensors[name].get(field)), ", ".join(fold(name for name, *_ in wrong)[:5])
        raise ConverterError(
            f"{checkpoint.directory}: {len(wrong)} of {len(checkpoint.tensors)} tensors differ from {MANIFEST} "
            f"({names}): the {field} of {name} is {value}, listed is {listed}; convert or fetch them again"
        )
    return manifest


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
