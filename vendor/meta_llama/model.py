"""The multi-token-prediction LLaMA in torch (Gloeckle et al. 2024, arXiv 2404.19737)."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class RopeScaling:
    """Llama-3 frequency scaling."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass
class ModelArgs:
    """The fields of params.json; what follows `max_seq_len` is beyond Meta's files (see VERSION).

    `n_layers` counts trunk layers and heads together. A `vocab_size` of -1 is filled in from the tokenizer.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    vocab_size: int = -1
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    n_future_tokens: int = 1
    max_seq_len: int = 2048  # slots of the KV cache; training knows no limit
    head_dim: int | None = None
    ffn_dim: int | None = None
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = False

    def __post_init__(self):
        if self.n_kv_heads is None:
            self.n_kv_heads = self.n_heads
        if self.head_dim is None:
            self.head_dim = self.dim // self.n_heads
        if self.ffn_dim is None:
            hidden = int(2 * 4 * self.dim / 3)
            if self.ffn_dim_multiplier is not None:
                hidden = int(self.ffn_dim_multiplier * hidden)
            self.ffn_dim = self.multiple_of * math.ceil(hidden / self.multiple_of)
        if isinstance(self.rope_scaling, dict):
            self.rope_scaling = RopeScaling(**self.rope_scaling)

    @classmethod
    def from_json(cls, path: str | Path) -> "ModelArgs":
        """Reads a params.json; Llama 3's `use_scaled_rope` stands for the default `rope_scaling`."""
        fields = json.loads(Path(path).read_text())
        if fields.pop("use_scaled_rope", False):
            fields.setdefault("rope_scaling", {})
        return cls(**fields)


def rope_frequencies(args: ModelArgs) -> Tensor:
    """Angle per position of each pair of channels, fp32 [head_dim / 2]."""
    frequencies = 1.0 / args.rope_theta ** (torch.arange(0, args.head_dim, 2).float() / args.head_dim)
    scaling = args.rope_scaling
    if scaling is None:
        return frequencies
    scaled = []
    for frequency in frequencies.tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < scaling.original_max_position_embeddings / scaling.high_freq_factor:
            scaled.append(frequency)
        elif wavelength > scaling.original_max_position_embeddings / scaling.low_freq_factor:
            scaled.append(frequency / scaling.factor)
        else:
            smooth = (scaling.original_max_position_embeddings / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            scaled.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return torch.tensor(scaled)


def apply_rope(x: Tensor, rotations: Tensor) -> Tensor:
    """Turns the channel pairs (0, 1), (2, 3), ... of x [B, S, heads, head_dim] by rotations [S, head_dim / 2]."""
    as_complex = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(as_complex * rotations[None, :, None, :]).flatten(-2).type_as(x)


class RMSNorm(nn.Module):
    """x / rms(x) with fp32 statistics, cast back, times the scale."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x_fp32 = x.float()
        normed = x_fp32 * torch.rsqrt(x_fp32.pow(2).mean(-1, keepdim=True) + self.eps)
        return normed.type_as(x) * self.weight


class Attention(nn.Module):
    """Grouped-query attention with its own KV cache."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.args = args
        self.wq = nn.Linear(args.dim, args.n_heads * args.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * args.head_dim, args.dim, bias=False)
        self.cache_k: Tensor | None = None
        self.cache_v: Tensor | None = None

    def forward(self, x: Tensor, rotations: Tensor, visible: Tensor, start_pos: int | None) -> Tensor:
        """Attends: x [B, S, D], visible [B or 1, S, T] (T = S without cache) -> [B, S, D]."""
        args = self.args
        B, S, _ = x.shape
        q = apply_rope(self.wq(x).view(B, S, args.n_heads, args.head_dim), rotations)
        k = apply_rope(self.wk(x).view(B, S, args.n_kv_heads, args.head_dim), rotations)
        v = self.wv(x).view(B, S, args.n_kv_heads, args.head_dim)
        if start_pos is not None:
            k, v = self._cached(k, v, start_pos)
        groups = args.n_heads // args.n_kv_heads
        k = k.repeat_interleave(groups, dim=2)
        v = v.repeat_interleave(groups, dim=2)
        scores = torch.einsum("bshq,bthq->bhst", q, k) / math.sqrt(args.head_dim)
        scores = scores.float().masked_fill(~visible[:, None], float("-inf"))
        out = torch.einsum("bhst,bthq->bshq", torch.softmax(scores, dim=-1).type_as(v), v)
        return self.wo(out.reshape(B, S, -1))

    def _cached(self, k: Tensor, v: Tensor, start_pos: int) -> tuple[Tensor, Tensor]:
        if start_pos == 0:
            slots = (k.shape[0], self.args.max_seq_len, *k.shape[2:])
            self.cache_k, self.cache_v = k.new_zeros(slots), v.new_zeros(slots)
        end = start_pos + k.shape[1]
        self.cache_k[:, start_pos:end] = k
        self.cache_v[:, start_pos:end] = v
        return self.cache_k[:, :end], self.cache_v[:, :end]


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.w1 = nn.Linear(args.dim, args.ffn_dim, bias=False)
        self.w2 = nn.Linear(args.ffn_dim, args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, args.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class TransformerBlock(nn.Module):
    """One pre-norm layer; trunk layers and heads are the same."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.attention = Attention(args)
        self.feed_forward = FeedForward(args)
        self.attention_norm = RMSNorm(args.dim, args.norm_eps)
        self.ffn_norm = RMSNorm(args.dim, args.norm_eps)

    def forward(self, x: Tensor, rotations: Tensor, visible: Tensor, start_pos: int | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotations, visible, start_pos)
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    """Trunk `layers[:-1]`; next-token head `layers[-1]`; heads 2..N `extra_heads`, all reading the trunk's output."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList(TransformerBlock(args) for _ in range(args.n_layers - args.n_future_tokens + 1))
        self.extra_heads = nn.ModuleList(TransformerBlock(args) for _ in range(args.n_future_tokens - 1))
        self.norm = RMSNorm(args.dim, args.norm_eps)
        if not args.tie_embeddings:
            self.output = nn.Linear(args.dim, args.vocab_size, bias=False)

    @property
    def prediction_heads(self) -> list[TransformerBlock]:
        """Heads 1..N in order."""
        return [self.layers[-1], *self.extra_heads]

    def forward(
        self,
        tokens: Tensor,
        start_pos: int | None = None,
        return_all_heads: bool = False,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next-token head, or of every head.

        Args:
            tokens: [B, S] token ids.
            start_pos: None for training: whole sequences, no cache, gradients. Otherwise the position of the first
                token in a cached decoding without gradients; 0 begins a new cache for this batch.
            return_all_heads: all N heads instead of the first alone.
            segment_ids: [B, S] for packed sequences in training; tokens see their own segment only.

        Returns:
            fp32 [B, S, N or 1, V]; entry [b, t, k] is the distribution of token t + k + 1.
        """
        heads = self.prediction_heads if return_all_heads else self.prediction_heads[:1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and start_pos is None):
            context = self.context(tokens, start_pos, segment_ids)
            trunk = self.trunk(tokens, *context)
            return self.logits(torch.stack([head(trunk, *context) for head in heads], dim=2))

    def context(self, tokens: Tensor, start_pos: int | None = None, segment_ids: Tensor | None = None) -> tuple:
        """What every layer needs beside its input: rotations [S, head_dim / 2], visible [B or 1, S, T], start_pos."""
        first, S = start_pos or 0, tokens.shape[1]
        if start_pos is not None and first + S > self.args.max_seq_len:
            raise ValueError(f"position {first + S - 1} does not fit into a cache of {self.args.max_seq_len} slots")
        positions = torch.arange(first, first + S, device=tokens.device)
        angles = torch.outer(positions.float(), rope_frequencies(self.args).to(tokens.device))
        rotations = torch.polar(torch.ones_like(angles), angles)
        visible = (torch.arange(first + S, device=tokens.device)[None, :] <= positions[:, None])[None]
        if segment_ids is not None:
            visible = visible & (segment_ids[:, :, None] == segment_ids[:, None, :])
        return rotations, visible, start_pos

    def trunk(self, tokens: Tensor, rotations: Tensor, visible: Tensor, start_pos: int | None) -> Tensor:
        """Output of the last trunk layer, before any norm: [B, S, D]."""
        hidden = self.tok_embeddings(tokens)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, rotations, visible, start_pos)
        return hidden

    def logits(self, head_output: Tensor) -> Tensor:
        """fp32 logits [..., V] of a head's output [..., D]: the shared norm and unembedding."""
        unembedding = self.tok_embeddings.weight if self.args.tie_embeddings else self.output.weight
        return F.linear(self.norm(head_output), unembedding).float()
