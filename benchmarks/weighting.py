"""Times advantages and token weights against rlax under vmap and against a NumPy loop over time.

    python benchmarks/weighting.py --out weighting.json

All implementations get the same batch (default 64 x 2,048 tokens, responses of random length) in the same run, take
turns, and must agree. rlax has advantages only: its second line adds our token weights to its advantages. Aim: at
least as fast as rlax.
"""

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from wmtp_jax.weighting import token_advantages, token_weights

DISCOUNTS = {"gamma": 1.0, "lambda_": 0.95}
WEIGHTING = {"normalization": "zscore", "temperature": 1.0, "entropy_floor": 0.01, "clip": (0.1, 5.0)}


def random_batch(rows: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [B, S], outcomes [B] and target mask [B, S]: a response anywhere in each row."""
    rng = np.random.default_rng(0)
    bounds = np.sort(rng.integers(1, length, (rows, 2)), axis=1)
    position = np.arange(length)
    mask = (position >= bounds[:, :1]) & (position <= bounds[:, 1:])
    return rng.random((rows, length), np.float32), rng.integers(0, 2, rows).astype(np.float32), mask


def rlax_advantages(values, is_correct, mask):
    """The peer: one reward and one zero discount at each response's last token."""
    last_BxS = mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    rewards_BxS = jnp.where(last_BxS, is_correct[:, None], 0.0)[:, 1:]
    discounts_BxS = jnp.where(mask & ~last_BxS, DISCOUNTS["gamma"], 0.0)[:, 1:]
    gae = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(0, 0, None, 0))
    advantages_BxS = gae(rewards_BxS, discounts_BxS, DISCOUNTS["lambda_"], values)
    return jnp.where(mask, jnp.pad(advantages_BxS, ((0, 0), (1, 0))), 0.0)


def numpy_advantages(values, is_correct, mask):
    """A loop over time, vectorised over rows."""
    result, following = np.zeros_like(values), np.zeros(len(values), np.float32)
    for j in range(values.shape[1] - 1, 0, -1):
        last = mask[:, j] & ~mask[:, j + 1] if j + 1 < values.shape[1] else mask[:, j]
        after = np.where(last, is_correct, DISCOUNTS["gamma"] * values[:, j])
        following = after - values[:, j - 1] + DISCOUNTS["gamma"] * DISCOUNTS["lambda_"] * following
        following = np.where(mask[:, j], following, 0.0)
        result[:, j] = following
    return result


def numpy_weights(scores, mask):
    """z-score, softmax and clip with mean 1 by bisection; the entropy floor does not bind here."""
    x = scores[mask].astype(np.float64)
    w = np.exp((x - x.mean()) / np.sqrt(x.var() + 1e-12) / WEIGHTING["temperature"])
    w /= w.mean()
    low, high = np.log(WEIGHTING["clip"][0] / w.max()), np.log(WEIGHTING["clip"][1] / w.min())
    for _ in range(40):
        middle = 0.5 * (low + high)
        if np.clip(np.exp(middle) * w, *WEIGHTING["clip"]).mean() < 1:
            low = middle
        else:
            high = middle
    result = np.zeros_like(scores)
    result[mask] = np.clip(np.exp(high) * w, *WEIGHTING["clip"])
    return result


def compare(implementations: dict[str, Callable], batch, repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each, taking turns, and the largest difference from the first."""
    reference = np.asarray(next(iter(implementations.values()))(*batch))
    differences = {name: float(np.abs(np.asarray(f(*batch)) - reference).max()) for name, f in implementations.items()}
    seconds = {name: [] for name in implementations}
    for _ in range(repeats):
        for name, compute in implementations.items():
            start = time.perf_counter()
            jax.block_until_ready(compute(*batch))
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"milliseconds": 1e3 * statistics.median(seconds[name]), "largest_difference": differences[name]}
        for name in implementations
    }


def measure_functions(rows: int, length: int, repeats: int) -> dict:
    """Advantages alone, and advantages with weights, by each implementation."""
    on_host = random_batch(rows, length)
    on_device = jax.device_put(on_host)
    weigh = functools.partial(token_weights, **WEIGHTING)
    ours = functools.partial(token_advantages, **DISCOUNTS)
    pair = lambda advantages: jax.jit(lambda v, r, m: weigh(advantages(v, r, m), m))
    from_host = lambda compute: lambda *_: compute(*on_host)
    return {
        "advantages": compare(
            {
                "wmtp_jax": jax.jit(ours),
                "rlax under vmap": jax.jit(rlax_advantages),
                "NumPy loop": from_host(numpy_advantages),
            },
            on_device,
            repeats,
        ),
        "advantages + weights": compare(
            {
                "wmtp_jax": pair(ours),
                "rlax under vmap, our weights": pair(rlax_advantages),
                "NumPy loop": from_host(lambda v, r, m: numpy_weights(numpy_advantages(v, r, m), m)),
            },
            on_device,
            repeats,
        ),
    }


def print_table(measured: dict) -> None:
    """One line per implementation: time, speed relative to ours, agreement."""
    print(f"{'':32}{'ms':>10}{'x ours':>10}{'max diff':>12}")
    for what, lines in measured.items():
        print(what)
        own = lines["wmtp_jax"]["milliseconds"]
        for name, line in lines.items():
            ratio = line["milliseconds"] / own
            print(f"  {name:30}{line['milliseconds']:>10.2f}{ratio:>10.2f}{line['largest_difference']:>12.1e}")


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=2048, help="tokens per row")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("weighting.json"))
    arguments = parser.parse_args()
    measured = {"functions": measure_functions(arguments.rows, arguments.length, arguments.repeats)}
    print(f"{arguments.rows} x {arguments.length} tokens on {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    print_table(measured["functions"])
    report = {"rows": arguments.rows, "length": arguments.length, "jax": jax.__version__, **measured}
    unfinished = arguments.out.with_name(arguments.out.name + ".tmp")
    unfinished.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(unfinished, arguments.out)


if __name__ == "__main__":
    main()
