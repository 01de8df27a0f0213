"""The models that configs and papers name: where they are published, and what is particular about them."""

import dataclasses

# Of storage/datasets_v2; what each needs is said by `python -m wmtp_jax.storage datasets`.
KNOWN_DATASETS = ("codecontests", "mbpp", "humaneval", "microcode")
META_MTP = "meta-llama-mtp"

_MTP_LICENCE = (
    "Multi-token Prediction Research License Agreement of 18 June 2024: gated, research only, must not be redistributed"
)


@dataclasses.dataclass(frozen=True)
class Model:
    """A published model."""

    name: str  # of its directory under storage/models_v2
    what: str  # it is, in a few words
    licence: str  # note that is kept beside it
    repository: str = ""  # on the Hugging Face hub; "" for one that ships with this project
    folder: str = ""  # of the repository that holds it; "" for the repository itself
    layout: str = "meta"  # in which it is published: "meta" or "hf"; "" for any
    reward_model: bool = False  # whether it has a value head
    gated: bool = False  # whether the hub gives it only to accounts that accepted its licence
    tokenizer_of: str = ""  # the model whose tokenizer it shares, which is then stored once, there
    parameters: int = 0  # number that is published


def _multi_token(name: str, tokens: str, heads: int, **fields) -> Model:
    what = f"Meta's 7B code model, {tokens} tokens, {heads} head{'s' * (heads > 1)}"
    return Model(
        name, what, _MTP_LICENCE, "facebook/multi-token-prediction", f"7B_{tokens}_{heads}", gated=True, **fields
    )


CATALOGUE = {
    model.name: model
    for model in (
        _multi_token(META_MTP, "1T", 4, parameters=6_738_415_616),
        _multi_token(f"{META_MTP}-1t-1", "1T", 1, tokenizer_of=META_MTP),
        _multi_token(f"{META_MTP}-200b-4", "200B", 4, tokenizer_of=META_MTP),
        _multi_token(f"{META_MTP}-200b-1", "200B", 1, tokenizer_of=META_MTP),
        Model(
            "ref-sheared-llama-2.7b",
            "Sheared-LLaMA-2.7B, a reference with Llama-2's tokenizer",
            "apache-2.0 on its model card, which adds that the licence of Llama 2 applies",
            "princeton-nlp/Sheared-LLaMA-2.7B",
            layout="hf",
            tokenizer_of=META_MTP,
        ),
        Model(
            "starling-rm-7b",
            "Starling-RM-7B-alpha, a reward model",
            "apache-2.0 on its model card, not to be used to compete with OpenAI; the licence of Llama 2 applies",
            "berkeley-nest/Starling-RM-7B-alpha",
            layout="hf",
            reward_model=True,
            tokenizer_of=META_MTP,
        ),
        Model("micro-mtp", "4 heads, ships with this project", "MIT"),
        Model("micro-ref", "plain Llama, ships with this project", "MIT", layout="hf"),
    )
}


def model_named(name: str) -> Model:
    """The model of the catalogue, or what is known of a user's own."""
    return CATALOGUE.get(name) or Model(name, "a model of yours", "see the source", layout="")


def where_published(repository: str, folder: str) -> str:
    """The page of a model on the hub, for a person."""
    return f"https://huggingface.co/{repository}" + (f", folder {folder}" if folder else "")
