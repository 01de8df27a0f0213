"""The weighted step of DESIGN 4-6 in torch and float64 loops: the oracle of `loss_and_gradients`.

The network is the torch reference; everything between its outputs and the loss is written out again, token by token.
"""

import math

import numpy as np
import torch
from dense_loss import all_heads_loss
from torch import Tensor


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


def ends_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last response position of every row."""
    return [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1])) for row in mask]


def advantages(values: np.ndarray, is_correct, mask, gamma: float, lambdas) -> np.ndarray:
    """A_j = delta_j + gamma lambda A_{j+1}, in float64."""
    result = np.zeros(mask.shape)
    for b, (first, last) in enumerate(ends_of(mask)):
        following = 0.0
        for j in range(last, first - 1, -1):
            after = float(is_correct[b]) if j == last else gamma * values[b, j]
            following = after - values[b, j - 1] + gamma * lambdas[b] * following
            result[b, j] = following
    return result


def mean_one(x: np.ndarray) -> np.ndarray:
    """Softmax weights, T of them with mean 1."""
    w = np.exp(x - x.max())
    return w / w.mean()


def root(is_below, low: float, high: float) -> float:
    """Where a rising condition turns false."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high


def with_entropy_floor(w: np.ndarray, floor: float) -> tuple[np.ndarray, float]:
    """(1 - e) w + e with the smallest e whose normalised entropy is the floor; and that e."""
    entropy = lambda w: -np.sum(w / len(w) * np.log(w / len(w))) / math.log(len(w))
    if entropy(w) >= floor:
        return w, 0.0
    share = root(lambda e: entropy((1 - e) * w + e) < floor, 0.0, 1.0)
    return (1 - share) * w + share, share


def clipped(w: np.ndarray, clip: tuple[float, float]) -> np.ndarray:
    """clip(c w) with the c that gives mean 1."""
    if w.min() >= clip[0] and w.max() <= clip[1]:
        return w
    c = root(lambda c: np.clip(math.exp(c) * w, *clip).mean() < 1, -50.0, 50.0)
    return np.clip(math.exp(c) * w, *clip)


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
