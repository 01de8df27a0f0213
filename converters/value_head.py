"""The value head of a reward model, and the layout in which Starling-RM-7B-alpha stores it.

That state dict is one of a module which holds a language model as `model`, the same backbone once more as
`transformer`, and the head: `model.model.*`, `model.lm_head.weight`, `transformer.*`, `v_head.weight` [1, D]. Here the
backbone is read once, as the Hugging Face Llama that it is. What we write has the head in a file of its own beside the
backbone, so that any Llama loader reads the rest.
"""

from pathlib import Path

from converters.errors import ConverterError
from converters.tensor import StoredTensor, read_safetensors, safetensors_header, same_bytes

VALUE_HEAD = "v_head.weight"
VALUE_HEAD_FILE = "value_head.safetensors"
_COPY, _WRAPPED = "transformer.", "model."


def take_value_head(
    tensors: dict[str, StoredTensor], weights: Path
) -> tuple[dict[str, StoredTensor], StoredTensor | None]:
    """Splits the tensors of a reward model into its backbone, named as a Hugging Face Llama, and its value head.

    Of a model without a value head, in `weights` or in a file of its own beside it: the tensors as they are, and None.

    Raises:
        ConverterError: the two copies of the backbone differ, or there are two value heads.
    """
    beside = weights.with_name(VALUE_HEAD_FILE)
    found = read_safetensors(beside) if beside.is_file() else {}
    if found:
        if set(found) != {VALUE_HEAD} or VALUE_HEAD in tensors:
            raise ConverterError(f"{beside}: expected the tensor {VALUE_HEAD} there and only there; restore the model")
        return tensors, found[VALUE_HEAD]
    if VALUE_HEAD not in tensors:
        return tensors, None
    backbone = {name: tensor for name, tensor in tensors.items() if name != VALUE_HEAD}
    copies = {name: backbone.pop(name) for name in list(backbone) if name.startswith(_COPY)}
    if any(name.startswith(_WRAPPED * 2) for name in backbone):
        backbone = {name.removeprefix(_WRAPPED): tensor for name, tensor in backbone.items()}
    for name, copy in copies.items():
        original = backbone.get(_WRAPPED + name.removeprefix(_COPY))
        if original is None:
            raise ConverterError(
                f"{weights}: {name} has no counterpart in the language model; expected the same backbone twice, as in "
                "Starling-RM-7B-alpha, so take the published checkpoint"
            )
        if not same_bytes(original, copy):
            raise ConverterError(
                f"{weights}: {name} differs from {original.name}, of which it should be a copy, so it is unclear which "
                "one the value head reads; fetch the checkpoint again"
            )
    return backbone, tensors[VALUE_HEAD]


def check_value_head(value_head: StoredTensor, dim: int) -> None:
    """Raises ConverterError unless the head maps a state of the model to one number."""
    value_head.check_dtype()
    if value_head.shape != (1, dim):
        raise ConverterError(
            f"{value_head.path}: {VALUE_HEAD} has the shape {list(value_head.shape)}, expected [1, {dim}], one number "
            "per state of the backbone; take a checkpoint whose parts belong together"
        )


def value_head_file(value_head: StoredTensor) -> bytes:
    """The safetensors file that holds the value head alone."""
    header = safetensors_header([(VALUE_HEAD, value_head.shape, value_head.dtype)], {"format": "pt"})
    return header + value_head.read().tobytes()
