"""Run in a process of its own with 8 simulated devices: the same steps on several meshes, compared as JSON."""

import collections
import json
import re
import sys

import jax
import numpy as np

from configs.defaults import get_config
from wmtp_jax.model import ModelConfig, MTPTransformer, init_params, logical_axes
from wmtp_jax.objectives import objective_class
from wmtp_jax.parallel import global_batch, make_mesh, shardings
from wmtp_jax.training.optimizer import make_optimizer
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import make_train_step

CONFIG = ModelConfig(
    dim=32, n_layers=5, n_heads=4, n_kv_heads=2, vocab_size=104, n_future_tokens=3, ffn_dim=48, max_seq_len=64
)
MODEL, AXES, PARAMS = MTPTransformer(CONFIG), logical_axes(CONFIG), jax.device_get(init_params(CONFIG))
B, S = 16, 40
ONE_DEVICE = {"data": 1, "fsdp": 1, "tensor": 1}
# Sizes of the mesh, and micro-batches.
MESHES = {
    "data 8": ({"data": 8, "fsdp": 1, "tensor": 1}, 1),
    "fsdp 8": ({"data": 1, "fsdp": 8, "tensor": 1}, 2),
    "data 2, fsdp 2, tensor 2": ({"data": 2, "fsdp": 2, "tensor": 2}, 4),
}


def batch(step: int) -> dict[str, np.ndarray]:
    """Rows of unequal lengths; one has no target, and one so few that only its first head has any."""
    rng = np.random.default_rng(step)
    n_tokens, position = rng.integers(12, S, B)[:, None], np.arange(S)
    target_mask = (position >= 10) & (position < n_tokens)
    target_mask[3] = False
    target_mask[4] = position == 1
    return {
        "tokens": rng.integers(0, CONFIG.vocab_size, (B, S)).astype(np.int32),
        "segment_ids": (position < n_tokens).astype(np.int32),
        "target_mask": target_mask,
        "is_correct": (rng.random(B) > 0.4).astype(np.int8),
        "reference_nll": (6 * rng.random((B, S))).astype(np.float32),
    }


def prepare(objective_name: str, accumulation: int, chunk_length: int = 128):
    """The jitted step and the state before it, laid out on the mesh that is set."""
    config = get_config()
    config.objective = objective_name
    config.train.accumulation, config.loss.chunk_length = accumulation, chunk_length
    objective = objective_class(objective_name)(config, CONFIG.n_future_tokens)
    optimizer, value_optimizer = (
        make_optimizer(settings, 100) for settings in (config.optimizer, config.critic.stage2_optimizer)
    )

    def create(params, value_params):
        return create_state(params, optimizer, value_params=value_params, value_optimizer=value_optimizer)

    initial = PARAMS, jax.device_get(objective.init_value_params(MODEL)) if objective.critic else None
    state = jax.jit(create, out_shardings=shardings(jax.eval_shape(create, *initial), AXES))(*initial)
    return jax.jit(make_train_step(MODEL, objective, optimizer, value_optimizer), donate_argnums=0), state


def mesh_of(sizes: dict) -> jax.sharding.Mesh:
    return make_mesh(sizes, jax.devices()[: np.prod(list(sizes.values()))])


def train(objective_name: str, sizes: dict, accumulation: int, n_steps: int = 20):
    """Parameters and metrics of every step, the number of compilations, and the largest share a device holds."""
    with jax.set_mesh(mesh_of(sizes)):
        step, state = prepare(objective_name, accumulation)
        kept = [leaf for leaf in jax.tree.leaves((state.params, state.opt_state)) if leaf.ndim]
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in kept) / sum(leaf.nbytes for leaf in kept)
        metrics = []
        for i in range(n_steps):
            state, measured = step(state, global_batch(batch(i)))
            metrics.append({name: float(value) for name, value in measured.items()})
        return jax.device_get((state.params, state.value_params)), metrics, step._cache_size(), held


def compare(objective_name: str, *meshes: str) -> dict:
    params, metrics, _, _ = train(objective_name, ONE_DEVICE, 1)
    found = {}
    for name in meshes:
        sizes, accumulation = MESHES[name]
        its_params, its_metrics, compilations, held = train(objective_name, sizes, accumulation)
        leaves, its_leaves = jax.tree.leaves(params), jax.tree.leaves(its_params)
        largest = [np.abs(a - b).max(initial=0) for a, b in zip(leaves, its_leaves, strict=True)]
        errors = [
            abs(a[key] - b[key]) / max(1.0, abs(a[key])) for a, b in zip(metrics, its_metrics, strict=True) for key in a
        ]
        found[name] = {
            "params": float(max(largest)),
            "metrics": max(errors),
            "compilations": compilations,
            "held": held,
        }
    return found


def collectives(sizes: dict, chunk_length: int) -> dict[str, int]:
    """How many of each kind the compiled step has."""
    with jax.set_mesh(mesh_of(sizes)):
        step, state = prepare("baseline", 1, chunk_length)
        text = step.lower(state, global_batch(batch(0))).compile().as_text()
    kinds = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    in_loss = [line for line in text.splitlines() if re.search(kinds, line) and "while" in line and "BCV" in line]
    return dict(collections.Counter(re.findall(kinds, text))) | {"in the loss's scan": len(in_loss)}


if __name__ == "__main__":
    if sys.argv[1] == "collectives":
        result = {name: [collectives(sizes, length) for length in (40, 5)] for name, (sizes, _) in MESHES.items()}
    else:
        result = compare(*sys.argv[1:])
    print(json.dumps(result))
