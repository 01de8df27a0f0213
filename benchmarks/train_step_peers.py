"""The peers of train_step.py, each alone in a process of its own so that peak memory belongs to one of them.

    python benchmarks/train_step_peers.py PEER MODEL_DIRECTORY BATCH_SIZE LENGTH

A peer warms up, says so, then takes one training step per line on stdin and answers with a line of JSON. All peers
start from the same weights (a Meta directory), see the same tokens and use the same AdamW, so their losses must agree.
"""

import dataclasses
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP_NORM = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0


def random_tokens(vocab_size: int, batch_size: int, length: int) -> np.ndarray:
    """The batch that every peer trains on: int64 [B, S]."""
    return np.random.default_rng(0).integers(0, vocab_size, (batch_size, length))


def jax_step(directory: str, batch_size: int, length: int, *, dense: bool = False, n_future_tokens: int | None = None):
    """Our train step, or the same step with the loss of materialised logits.

    With `n_future_tokens` the step is compiled for a model of as many layers with that many heads, and not run.

    Returns:
        step() -> loss, and the compiled step's temporary bytes with the FLOPs that a step needs.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from configs import baseline
    from converters import load_meta
    from wmtp_jax.model import MTPTransformer, param_shapes
    from wmtp_jax.objectives.baseline import Baseline
    from wmtp_jax.training.optimizer import decay_mask
    from wmtp_jax.training.peak import step_flops
    from wmtp_jax.training.state import create_state
    from wmtp_jax.training.step import make_train_step

    config, params = load_meta(directory)
    if n_future_tokens is not None:
        config = dataclasses.replace(config, n_future_tokens=n_future_tokens)
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), param_shapes(config))
    model = MTPTransformer(config)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        optax.adamw(LEARNING_RATE, *BETAS, EPSILON, weight_decay=WEIGHT_DECAY, mask=decay_mask),
    )
    N = config.n_future_tokens
    if dense:
        train_step = dense_jax_step(model, optimizer)
    else:
        train_step = make_train_step(model, Baseline(baseline.get_config(), N), optimizer)
    tokens = jnp.asarray(random_tokens(config.vocab_size, batch_size, length), jnp.int32)
    batch = {
        "tokens": tokens,
        "segment_ids": jnp.ones_like(tokens),
        "target_mask": jnp.ones(tokens.shape, bool),
        "is_correct": jnp.ones(batch_size, jnp.int32),
    }
    state = create_state(params, optimizer)
    del params
    compiled = jax.jit(train_step, donate_argnums=0).lower(state, batch).compile()

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    temporary_bytes = compiled.memory_analysis().temp_size_in_bytes
    return step, {"temporary_bytes": temporary_bytes, "flops": step_flops(config, batch_size, length)}


def dense_jax_step(model, optimizer):
    """(state, batch) -> (state, metrics) from the logits of all heads at once."""
    import jax
    import jax.numpy as jnp
    import optax

    def loss_of(params, batch):
        logits_BxSxNxV = model.apply({"params": params}, batch["tokens"], batch["segment_ids"])
        N = model.config.n_future_tokens
        log_probs = jax.nn.log_softmax(logits_BxSxNxV)
        targets = [batch["tokens"][:, k:, None] for k in range(1, N + 1)]
        picked = [jnp.take_along_axis(log_probs[:, :-k, k - 1], targets[k - 1], -1) for k in range(1, N + 1)]
        return -sum(x.mean() for x in picked) / N

    def train_step(state, batch):
        loss, grads = jax.value_and_grad(loss_of)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), {"loss": loss}

    return train_step


def torch_step(directory: str, batch_size: int, length: int, *, head_by_head: bool = False):
    """The torch reference with the dense loss, or with one head's logits at a time (Gloeckle et al. 2024, section 2).

    Head by head: the trunk's output is detached, every head runs forward and backward in turn and adds its gradient
    there, then the trunk runs backward once.
    """
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    from vendor.meta_llama import ModelArgs, Transformer

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    args = ModelArgs.from_json(Path(directory) / "params.json")
    model = Transformer(args)
    model.load_state_dict(load_file(Path(directory) / "consolidated.safetensors"))
    tokens = torch.from_numpy(random_tokens(args.vocab_size, batch_size, length))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    scales = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": scales, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)

    N = args.n_future_tokens
    targets = torch.full((batch_size, length, N), -100)
    coefficients = torch.zeros(batch_size, length, N)
    for k in range(1, N + 1):
        targets[:, :-k, k - 1] = tokens[:, k:]
        coefficients[:, :-k, k - 1] = 1 / (N * batch_size * (length - k))

    def loss_of(logits, heads: slice):
        nll = F.cross_entropy(logits.flatten(0, -2), targets[..., heads].flatten(), reduction="none")
        return (nll * coefficients[..., heads].flatten()).sum()

    def dense() -> float:
        loss = loss_of(model(tokens, return_all_heads=True), slice(None))
        loss.backward()
        return loss.item()

    def one_head_at_a_time() -> float:
        context = model.context(tokens)
        trunk = model.trunk(tokens, *context)
        detached = trunk.detach().requires_grad_()
        total = 0.0
        for k, head in enumerate(model.prediction_heads):
            loss = loss_of(model.logits(head(detached, *context)), slice(k, k + 1))
            loss.backward()
            total += loss.item()
        trunk.backward(detached.grad)
        return total

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = one_head_at_a_time() if head_by_head else dense()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        return loss

    return step, {}


def matmul_rates(directory: str, batch_size: int, length: int):
    """Every call measures f32 products of the step's own shapes and a square one; answers with the best FLOP/s."""
    import jax
    import jax.numpy as jnp

    fields = json.loads((Path(directory) / "params.json").read_text())
    T, D, V, side = batch_size * length, fields["dim"], fields["vocab_size"], 4 * fields["dim"]
    shapes = [(T, D, V), (T, V, D), (D, T, V), (T, D, 3 * D), (side, side, side)]
    operands = [(jnp.ones((m, k)), jnp.ones((k, n))) for m, k, n in shapes]
    multiply = jax.jit(jnp.matmul)

    def rate(shape, pair) -> float:
        start = time.perf_counter()
        multiply(*pair).block_until_ready()
        return 2 * np.prod(shape, dtype=float) / (time.perf_counter() - start)

    return lambda: max(rate(shape, pair) for shape, pair in zip(shapes, operands, strict=True)), {}


PEERS = {
    "ours": jax_step,
    "dense JAX loss": lambda *sizes: jax_step(*sizes, dense=True),
    "torch, dense loss": torch_step,
    "torch, head by head": lambda *sizes: torch_step(*sizes, head_by_head=True),
    "ours, one head": lambda *sizes: jax_step(*sizes, n_future_tokens=1),
    "matmul": matmul_rates,
}


def save_model(directory: str, fields: dict):
    """Writes the common starting point."""
    from converters import save_meta
    from wmtp_jax.model import ModelConfig, init_params

    config = ModelConfig(**fields)
    save_meta(directory, config, init_params(config))


def peak_rss_bytes() -> int:
    """Most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(peer: str, directory: str, batch_size: str, length: str):
    """Answers one line per line of stdin, then reports the peak."""
    say = lambda **record: print(json.dumps(record), flush=True)
    step, about = PEERS[peer](directory, int(batch_size), int(length))
    if peer != "ours, one head":
        for _ in range(2):
            step()
    say(**about)
    for _ in sys.stdin:
        start = time.perf_counter()
        value = step()
        say(seconds=time.perf_counter() - start, value=value)
    say(peak_rss_bytes=peak_rss_bytes())


if __name__ == "__main__":
    if sys.argv[1] == "save_model":
        save_model(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(*sys.argv[1:])
