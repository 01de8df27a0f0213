"""The weighted step of DESIGN 4-6 in torch and float64 loops: the oracle of `loss_and_gradients`.

The network is the torch reference; everything between its outputs and the loss is written out again, token by token,
here and in weighting_oracle.
"""

import numpy as np
import torch
from dense_loss import all_heads_loss
from torch import Tensor
from weighting_oracle import ends_of


def surprise_so_far(logits: Tensor, tokens: Tensor, mask: np.ndarray) -> Tensor:
    """Nine numbers per position [B, S, 9]: of the token just read, mean so far, worst so far; 0 before the response."""
    log_p = torch.log_softmax(logits.detach().double(), dim=-1).numpy()
    features = np.zeros((*mask.shape, 9))
    for b, (first, last) in enumerate(ends_of(mask)):
        seen = []
        for t in range(first, last + 1):
            log_probs = log_p[b, t - 1]
            own = log_probs[tokens[b, t]]
            seen.append((own, log_probs.max() - own, -(np.exp(log_probs) * log_probs).sum()))
            so_far = np.array(seen)
            worst = so_far[:, 0].min(), so_far[:, 1].max(), so_far[:, 2].max()
            features[b, t] = *seen[-1], *so_far.mean(0), *worst
    return torch.from_numpy(features).float()


def value_logits(head: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Log-odds [B, S] of a linear head, or of one with a hidden layer."""
    if "hidden.kernel" in head:
        inputs = torch.nn.functional.silu(inputs @ head["hidden.kernel"] + head["hidden.bias"])
    return (inputs @ head["value.kernel"] + head["value.bias"])[..., 0]


def value_losses(values, logits, targets, states, anchors, kind: str, clip: float) -> Tensor:
    """Mean over the states of the binary cross-entropy, or of the squared error clipped around the anchor."""
    total = torch.zeros(())
    for b, t in states:
        if kind == "bce":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[b, t], torch.tensor(targets[b, t]))
        else:
            held = anchors[b, t] + (values[b, t] - anchors[b, t]).clamp(-clip, clip)
            loss = 0.5 * torch.maximum((values[b, t] - targets[b, t]) ** 2, (held - targets[b, t]) ** 2)
        total = total + loss
    return total / len(states)


def weighted_cross_entropy(logits: Tensor, head_weights, batch: dict, imitated: np.ndarray, weights: np.ndarray):
    """sum_k a_k sum_t w[t+k] nll_k[t] / sum_t w[t+k], from dense logits [B, S, N, V]."""
    return all_heads_loss(
        logits, head_weights, batch["tokens"], batch["segment_ids"], imitated, weights.astype(np.float32)
    )
