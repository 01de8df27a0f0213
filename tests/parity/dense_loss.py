"""The loss of DESIGN 4 in torch, head by head from dense logits: the oracle of the chunked loss."""

import torch
from torch import Tensor


def head_loss(logits: Tensor, k: int, tokens, segment_ids, target_mask, weights) -> tuple[Tensor, Tensor]:
    """sum_t w[t+k] valid_k[t] nll_k[t] / sum_t w[t+k] valid_k[t] for the head whose target is token t + k.

    Args:
        logits: [B, S, V] of this head.
        k: from 1.
        tokens: [B, S]; the last k positions of a row predict nothing.
        segment_ids: [B, S], 0 on padding.
        target_mask: [B, S] bool.
        weights: [B, S], per target token.

    Returns:
        The head's loss and its nll [B, S - k].
    """
    tokens, segment_ids, target_mask, weights = map(torch.as_tensor, (tokens, segment_ids, target_mask, weights))
    nll = -torch.log_softmax(logits[:, :-k], dim=-1).gather(-1, tokens[:, k:, None])[..., 0]
    valid = (segment_ids[:, :-k] == segment_ids[:, k:]) & (segment_ids[:, k:] != 0) & target_mask[:, k:]
    w = torch.where(valid, weights[:, k:], 0.0)
    return (w * nll).sum() / w.sum(), nll


def all_heads_loss(logits: Tensor, head_weights, tokens, segment_ids, target_mask, weights) -> Tensor:
    """sum_k a_k * head_loss_k for logits [B, S, N, V]."""
    loss = 0.0
    for k, a_k in enumerate(head_weights, start=1):
        loss = loss + a_k * head_loss(logits[:, :, k - 1], k, tokens, segment_ids, target_mask, weights)[0]
    return loss
