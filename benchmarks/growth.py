"""Larger models that compute what a small one computes, to measure speed at a size without training there."""

import dataclasses

import jax
import numpy as np

from wmtp_jax.model import ModelConfig

_AXES = {
    "embedding": "VD",
    "scale": "D",
    "wq": "DHQ",
    "wk": "DKQ",
    "wv": "DKQ",
    "wo": "HQD",
    "w1": "DF",
    "w3": "DF",
    "w2": "FD",
    "kernel": "DV",
}


def grow(config: ModelConfig, params, *, dim: int, n_trunk_layers: int, head_dim: int, ffn_dim: int):
    """The same function with more parameters, in the spirit of Net2Net (Chen et al. 2016, arXiv 1511.05641).

    Every array is laid into a larger one of zeros: new layers add nothing to the residual stream, new channels stay
    zero. A norm divides by the root of a mean that more channels share, and a score by the root of a larger head, so
    norm scales and queries make up for it; the rotary pairs go where the larger head turns at their frequencies. What
    is computed agrees to rounding: sums run over longer axes.

    Args:
        config: of the small model.
        params: its parameters.
        dim: channels, at least the small model's.
        n_trunk_layers: trunk layers, at least the small model's.
        head_dim: channels per head, a multiple of the small model's.
        ffn_dim: hidden channels of the feed-forward layers, at least the small model's.

    Returns:
        The grown config and parameters, fp32.

    Raises:
        ValueError: head_dim is no multiple of the small model's, or a size is below it.
    """
    if head_dim % config.head_dim:
        raise ValueError(f"head_dim is {head_dim}; expected a multiple of the model's {config.head_dim}")
    for name, size in {"dim": dim, "n_trunk_layers": n_trunk_layers, "ffn_dim": ffn_dim}.items():
        if size < getattr(config, name):
            raise ValueError(f"{name} is {size}; expected at least the model's {getattr(config, name)}")
    stretch = head_dim // config.head_dim
    sizes = {"D": dim, "Q": head_dim, "F": ffn_dim}
    channel = np.arange(config.head_dim)
    new_index = {"Q": 2 * stretch * (channel // 2) + channel % 2}
    factors = {"scale": (config.dim / dim) ** 0.5, "wq": stretch**0.5}

    def grown(path, leaf):
        names = [entry.key for entry in path]
        axes = _AXES[names[-1]]
        shape = [sizes.get(axis, n) for axis, n in zip(axes, leaf.shape[-len(axes) :], strict=True)]
        where = [new_index.get(axis, np.arange(n)) for axis, n in zip(axes, leaf.shape[-len(axes) :], strict=True)]
        if names[0] in ("trunk", "heads"):
            shape.insert(0, n_trunk_layers if names[0] == "trunk" else len(leaf))
            where.insert(0, np.arange(len(leaf)))
        larger = np.zeros(shape, np.float32)
        larger[np.ix_(*where)] = np.asarray(leaf, np.float32) * factors.get(names[-1], 1.0)
        return larger

    grown_config = dataclasses.replace(
        config,
        dim=dim,
        n_layers=n_trunk_layers + config.n_future_tokens,
        head_dim=head_dim,
        ffn_dim=ffn_dim,
        norm_eps=config.norm_eps * config.dim / dim,
    )
    return grown_config, jax.tree_util.tree_map_with_path(grown, params)
