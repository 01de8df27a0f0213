"""The architecture of an MTP LLaMA, in the terms of Meta's params.json."""

import dataclasses
import math

from wmtp_jax.errors import UserError, shown


class ModelConfigError(UserError):
    """An architecture that cannot be built."""


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3 frequency scaling (`rope_type: llama3` in Hugging Face configs)."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


def derived_ffn_dim(dim: int, multiple_of: int, ffn_dim_multiplier: float | None) -> int:
    """Feed-forward width of a LLaMA: 2/3 of 4 * dim, scaled, rounded up to a multiple (Meta's llama/model.py)."""
    hidden = int(2 * 4 * dim / 3)
    if ffn_dim_multiplier is not None:
        hidden = int(ffn_dim_multiplier * hidden)
    return multiple_of * math.ceil(hidden / multiple_of)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture only; how it runs (dtype, remat, attention) are attributes of `MTPTransformer`.

    `n_layers` counts trunk layers and heads together. `n_kv_heads`, `head_dim` and `ffn_dim` are derived when None.

    Raises:
        ModelConfigError: the numbers do not describe a model.
    """

    dim: int
    n_layers: int
    n_heads: int
    vocab_size: int
    n_kv_heads: int | None = None
    n_future_tokens: int = 1
    head_dim: int | None = None
    ffn_dim: int | None = None
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = 1.0
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = False
    max_seq_len: int = 2048

    def __post_init__(self):
        fill = lambda name, value: object.__setattr__(self, name, value)
        for name in ("dim", "n_layers", "n_heads", "vocab_size", "n_future_tokens", "multiple_of", "max_seq_len"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelConfigError(f"model field {name} is {shown(value)}; expected a positive integer")
        if self.n_kv_heads is None:
            fill("n_kv_heads", self.n_heads)
        if self.head_dim is None:
            if self.dim % self.n_heads:
                raise ModelConfigError(f"dim {self.dim} is not divisible by n_heads {self.n_heads}; give head_dim")
            fill("head_dim", self.dim // self.n_heads)
        if self.ffn_dim is None:
            fill("ffn_dim", derived_ffn_dim(self.dim, self.multiple_of, self.ffn_dim_multiplier))
        if self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads:
            raise ModelConfigError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ModelConfigError(f"head_dim is {self.head_dim}; rotary embeddings need an even width")
        if self.n_layers <= self.n_future_tokens:
            raise ModelConfigError(
                f"n_layers {self.n_layers} counts trunk and heads, so it must exceed n_future_tokens "
                f"{self.n_future_tokens}: a trunk of at least one layer is expected"
            )

    @property
    def n_trunk_layers(self) -> int:
        return self.n_layers - self.n_future_tokens


def leaf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape per leaf of the param tree, by dotted path; nothing is built or traced, so any numbers will do.

    The stacked leaves of `trunk` and `heads` have a leading axis of layers.
    """
    D, H, K, Q = config.dim, config.n_heads, config.n_kv_heads, config.head_dim
    F, V = config.ffn_dim, config.vocab_size
    block = {
        "attention.wq": (D, H, Q),
        "attention.wk": (D, K, Q),
        "attention.wv": (D, K, Q),
        "attention.wo": (H, Q, D),
        "feed_forward.w1": (D, F),
        "feed_forward.w3": (D, F),
        "feed_forward.w2": (F, D),
        "attention_norm.scale": (D,),
        "ffn_norm.scale": (D,),
    }
    stacked = lambda stack, depth: {f"{stack}.{name}": (depth, *shape) for name, shape in block.items()}
    shapes = {
        "tok_embeddings.embedding": (V, D),
        **stacked("trunk", config.n_trunk_layers),
        **stacked("heads", config.n_future_tokens),
        "norm.scale": (D,),
    }
    return shapes if config.tie_embeddings else {**shapes, "output.kernel": (D, V)}
