"""Advantages and token weights in float64 NumPy, token by token and step by step: the oracle of several tests."""

import numpy as np


def ends_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last response position of every row."""
    return [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1])) for row in mask]


def advantages(values: np.ndarray, is_correct, mask: np.ndarray, gamma: float, lambdas) -> np.ndarray:
    """A_j = delta_j + gamma * lambda * A_{j+1}, one lambda per row."""
    values, result = np.asarray(values, np.float64), np.zeros(mask.shape)
    for b, (first, last) in enumerate(ends_of(mask)):
        following = 0.0
        for j in range(last, first - 1, -1):
            after = float(is_correct[b]) if j == last else gamma * values[b, j]
            following = after - values[b, j - 1] + gamma * lambdas[b] * following
            result[b, j] = following
    return result


def normalized(x: np.ndarray, normalization: str) -> np.ndarray:
    """The scores [T] on one scale."""
    x = np.asarray(x, np.float64)
    if normalization == "zscore":
        return (x - x.mean()) / np.sqrt(x.var() + 1e-12)
    return (x - x.min()) / (np.ptp(x) or 1.0) if normalization == "minmax" else x


def mean_one(z: np.ndarray) -> np.ndarray:
    """Softmax weights, T of them with mean 1."""
    w = np.exp(z - z.max())
    return w / w.mean()


def entropy(w: np.ndarray) -> float:
    """Normalised entropy of weights: 1 when all are equal."""
    p = np.asarray(w, np.float64) / np.sum(w, dtype=np.float64)
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0))) / np.log(len(p)) if len(p) > 1 else 1.0


def with_entropy_floor(w: np.ndarray, floor: float) -> tuple[np.ndarray, float]:
    """(1 - e) w + e with the smallest e whose normalised entropy is the floor; and that e."""
    if entropy(w) >= floor:
        return w, 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        e = 0.5 * (low + high)
        low, high = (e, high) if entropy((1 - e) * w + e) < floor else (low, e)
    return (1 - high) * w + high, high


def clipped(w: np.ndarray, clip: tuple[float, float]) -> np.ndarray:
    """clip(c w) with the c that gives mean 1: mean(clip(c w)) is piecewise linear in c, with sorted kinks."""
    least, most = clip
    if w.min() >= least and w.max() <= most:
        return w
    kinks = np.unique(np.concatenate([least / w, most / w, [0.0]]))
    lowest, highest = 0, len(kinks) - 1
    mean = lambda c: np.clip(c * w, least, most).mean()
    while highest - lowest > 1:
        middle = (lowest + highest) // 2
        lowest, highest = (middle, highest) if mean(kinks[middle]) < 1 else (lowest, middle)
    c0, c1 = kinks[lowest], kinks[highest]
    c = c0 + (1 - mean(c0)) * (c1 - c0) / (mean(c1) - mean(c0))
    return np.clip(c * w, least, most)


def token_weights(scores: np.ndarray, *, normalization, temperature, entropy_floor, clip) -> np.ndarray:
    """The four steps on the T scores of the mask alone."""
    w = mean_one(normalized(scores, normalization) / temperature)
    return clipped(with_entropy_floor(w, entropy_floor)[0], clip)
