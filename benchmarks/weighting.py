"""Times advantages and token weights against rlax and a NumPy loop, and the weighted steps against the baseline step.

    python benchmarks/weighting.py --out weighting.json

Functions: all implementations get the same batch (default 64 x 2,048 tokens, responses of random length) in the same
run, take turns, and must agree. rlax has advantages only: its second line adds our token weights to its advantages.
Aim: at least as fast as rlax.

Steps: one model (dim 512, 6 layers of which 4 are heads, vocabulary 32,000), one batch (4 x 256, half of it right
solutions), fp32, AdamW, accumulation 1; about 4 GB of memory. One train state goes through the baseline's, the
verifiable and the Rho-1 step in turn, round after round, so that a change of the machine's speed hits all alike. Aims:
the verifiable step takes at most 1.08 and the Rho-1 step (cached reference) at most 1.15 of the baseline step.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rlax
from train_step import MODEL, SMALL

from configs import baseline, rho1_weighted, verifiable
from wmtp_jax.files import write_atomically
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params
from wmtp_jax.objectives import objective_class
from wmtp_jax.training.optimizer import make_optimizer
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import make_train_step
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
    for i in range(repeats):
        for j in range(len(seconds)):  # each follows each other one equally often: the loop leaves cold caches behind
            name = list(seconds)[(i + j) % len(seconds) if i % 2 else (i - j) % len(seconds)]
            start = time.perf_counter()
            jax.block_until_ready(implementations[name](*batch))
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
    alone = {"wmtp_jax": jax.jit(ours), "rlax under vmap": jax.jit(rlax_advantages)}
    alone["NumPy loop"] = from_host(numpy_advantages)
    weighted = {"wmtp_jax": pair(ours), "rlax under vmap, our weights": pair(rlax_advantages)}
    weighted["NumPy loop"] = from_host(lambda v, r, m: numpy_weights(numpy_advantages(v, r, m), m))
    measured = {"advantages": alone, "advantages + weights": weighted}
    return {what: compare(implementations, on_device, repeats) for what, implementations in measured.items()}


def step_batch(vocab_size: int, rows: int, length: int) -> dict[str, jax.Array]:
    """Full rows; a quarter of each is prompt, every other one is a wrong solution."""
    rng = np.random.default_rng(0)
    position = np.broadcast_to(np.arange(length), (rows, length))
    return {
        "tokens": jnp.asarray(rng.integers(0, vocab_size, (rows, length)), jnp.int32),
        "segment_ids": jnp.ones((rows, length), jnp.int32),
        "target_mask": jnp.asarray(position >= length // 4),
        "is_correct": jnp.asarray(np.arange(rows) % 2 == 0, jnp.int8),
        "reference_nll": jnp.asarray(rng.gamma(4.0, 2.5, (rows, length)), jnp.float32),
    }


def measure_steps(model_fields: dict, rows: int, length: int, rounds: int) -> dict[str, dict]:
    """Times of each objective's step, their ratios to the baseline's, and the compiled step's temporary bytes.

    On a machine that others use, the ratio of the shortest times is the steadier one.
    """
    model_config = ModelConfig(**model_fields)
    model, N = MTPTransformer(model_config), model_config.n_future_tokens
    batch = step_batch(model_config.vocab_size, rows, length)
    configs = {"baseline": baseline, "verifiable": verifiable, "Rho-1": rho1_weighted}
    configs = {name: module.get_config() for name, module in configs.items()}
    objectives = {name: objective_class(config.objective)(config, N) for name, config in configs.items()}
    optimizer = make_optimizer(configs["verifiable"].optimizer, 1000)
    value_optimizer = make_optimizer(configs["verifiable"].critic.stage2_optimizer, 1000)
    state = create_state(
        init_params(model_config),
        optimizer,
        value_params=objectives["verifiable"].init_value_params(model),
        value_optimizer=value_optimizer,
    )
    steps = {}
    for name, objective in objectives.items():
        step = make_train_step(model, objective, optimizer, value_optimizer)
        steps[name] = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    seconds = {name: [] for name in steps}
    for i in range(rounds + 1):  # the first round warms up
        for j in range(len(steps)):
            name = list(steps)[(i + j) % len(steps)]
            start = time.perf_counter()
            state, _ = jax.block_until_ready(steps[name](state, batch))
            if i:
                seconds[name].append(time.perf_counter() - start)
        print(f"round {i} of {rounds}", file=sys.stderr)
    own = seconds["baseline"]
    return {
        name: {
            "seconds_median": statistics.median(times),
            "ratio_of_medians": statistics.median(times) / statistics.median(own),
            "seconds_shortest": min(times),
            "ratio_of_shortest": min(times) / min(own),
            "seconds": times,
            "temporary_bytes": steps[name].memory_analysis().temp_size_in_bytes,
        }
        for name, times in seconds.items()
    }


def show(functions: dict, steps: dict) -> None:
    """Implementations: time, relative to ours, agreement. Objectives: time of a step, relative to the baseline."""
    print(f"{'':32}{'ms':>10}{'x ours':>10}{'max diff':>12}")
    for what, lines in functions.items():
        print(what)
        own = lines["wmtp_jax"]["milliseconds"]
        for name, line in lines.items():
            ratio = line["milliseconds"] / own
            print(f"  {name:30}{line['milliseconds']:>10.2f}{ratio:>10.2f}{line['largest_difference']:>12.1e}")
    print(f"{'step':16}{'median s':>10}{'ratio':>8}{'shortest s':>12}{'ratio':>8}{'temporaries':>14}")
    for name, line in steps.items():
        times = "".join(
            f"{line[f'seconds_{kind}']:>{width}.3f}{line[f'ratio_of_{ratio}']:>8.3f}"
            for kind, ratio, width in (("median", "medians", 10), ("shortest", "shortest", 12))
        )
        print(f"  {name:14}{times}{line['temporary_bytes'] / 2**20:>10.0f} MiB")


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=2048, help="tokens per row")
    parser.add_argument("--repeats", type=int, default=50, help="of each function")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each objective")
    parser.add_argument("--small", action="store_true", help="steps of a tiny model, to see that the script works")
    parser.add_argument("--out", type=Path, default=Path("weighting.json"))
    arguments = parser.parse_args()
    sizes = (SMALL, 2, 64) if arguments.small else (MODEL, 4, 256)
    functions = measure_functions(arguments.rows, arguments.length, arguments.repeats)
    print(f"{arguments.rows} x {arguments.length} tokens on {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    steps = measure_steps(*sizes, rounds=arguments.steps)
    show(functions, steps)
    report = {"rows": arguments.rows, "length": arguments.length, "model": sizes[0], "batch": sizes[1:]}
    report |= {"jax": jax.__version__, "functions": functions, "steps": steps}
    write_atomically(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
