"""What a training step takes on devices that are not there: python -m wmtp_jax.plan --config FILE --mesh fsdp=8

The real step is compiled for simulated devices, from shapes alone: no parameter is allocated.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from wmtp_jax import cli
from wmtp_jax.errors import UserError, shown

_UNITS = {"GB": 10**9, "GiB": 2**30}
# Tried one after the other, each on top of those before, when a step does not fit.
_REMEDIES = (("model.remat", "full"), ("model.attention", "blocked"), ("loss.chunk_length", 64))
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return cli.run(lambda: run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> None:
    """Prints the table of every step of the config, for the longest rows."""
    from wmtp_jax.training.config import parse

    arguments, rest = _parser().parse_known_args(argv)
    config = parse(rest).config
    sizes = dict.fromkeys(("data", "fsdp", "tensor"), 1) | dict(arguments.mesh)
    config.mesh.update(sizes)
    n_devices = math.prod(sizes.values())
    # Read by jax when it is imported; the simulated devices share this machine's processor and allocate nothing.
    os.environ |= {"JAX_NUM_CPU_DEVICES": str(n_devices), "JAX_PLATFORMS": "cpu"}

    import jax

    from wmtp_jax.parallel import make_mesh

    print(f"{config.run_name} on {n_devices} devices: " + " x ".join(f"{name} {n}" for name, n in sizes.items()))
    with jax.set_mesh(make_mesh(config.mesh)):
        needed = _print_steps(config)
        if arguments.device_memory and needed > arguments.device_memory:
            _try_remedies(config, needed, arguments.device_memory)
        elif arguments.device_memory:
            print(f"fits in {_size(arguments.device_memory)} a device")


def _parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="python -m wmtp_jax.plan",
        usage="python -m wmtp_jax.plan --config FILE[:PRESET] [--mesh AXIS=N ...] [--config.FIELD=VALUE ...]",
        description="Compiles a config's training steps for devices that are not there; says what a device holds.",
        examples=(
            "python -m wmtp_jax.plan --config configs/verifiable.py",
            "python -m wmtp_jax.plan --config configs/verifiable.py:7b --mesh fsdp=8 --device_memory 24GB",
        ),
    )
    parser.add_argument(
        "--mesh", nargs="+", type=_axis, default=[], metavar="AXIS=N", help="sizes of data, fsdp and tensor; others: 1"
    )
    parser.add_argument(
        "--device_memory", type=_bytes, metavar="SIZE", help="of one device, such as 24GB or 80GiB: does it fit?"
    )
    return parser


def _axis(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if name not in ("data", "fsdp", "tensor") or not size.isdecimal() or not 1 <= int(size) <= 4096:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not data=N, fsdp=N or tensor=N with N from 1 to 4096")
    return name, int(size)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(GB|GiB)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a size; expected one such as 24GB or 80GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def _print_steps(config: Any) -> int:
    """One table per step; returns the bytes per device of the one that needs most."""
    needed = 0
    for name, flops, step, arguments, parts in _steps(config):
        compiled = step.lower(*arguments).compile()
        memory = compiled.memory_analysis()
        total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        total += memory.output_size_in_bytes - memory.alias_size_in_bytes
        parts["temporaries (activations, gradients, gathered weights)"] = memory.temp_size_in_bytes
        parts["batch and results"] = total - sum(parts.values())
        print(f"\n{name}, {flops:.3g} matmul FLOPs")
        for part, nbytes in {**parts, "a device holds": total}.items():
            print(f"  {part:<56}{_size(nbytes):>12}")
        counts = {kind: len(re.findall(rf" {kind}(?:-start)?\(", compiled.as_text())) for kind in _COLLECTIVES}
        found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        print(f"  collectives in the program (those of a layer are run for each): {found or 'none'}")
        needed = max(needed, total)
    print()
    return needed


def _steps(config: Any):
    """(name, FLOPs, jitted step, abstract arguments, bytes per device by kind) of every stage."""
    import jax
    import jax.numpy as jnp

    from wmtp_jax.model import MTPTransformer, logical_axes, param_shapes, with_heads
    from wmtp_jax.objectives import objective_class
    from wmtp_jax.parallel import shardings
    from wmtp_jax.training.assets import require_even_batches
    from wmtp_jax.training.optimizer import make_optimizer
    from wmtp_jax.training.peak import step_flops
    from wmtp_jax.training.state import create_state
    from wmtp_jax.training.step import make_critic_step, make_train_step

    objective_type = objective_class(config.objective)
    require_even_batches(jax.sharding.get_mesh(), config, objective_type)
    model_config = _architecture(config)
    settings = {
        "dtype": jnp.dtype(config.model.dtype),
        "remat": config.model.remat,
        "attention": config.model.attention,
    }
    model = MTPTransformer(model_config, **settings)
    objective = objective_type(config, model_config.n_future_tokens)
    length = config.data.buckets[-1]
    axes, params = logical_axes(model_config), param_shapes(model_config)

    def placed(tree, axes):
        place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return jax.tree.map(place, tree, shardings(tree, axes))

    def held(tree) -> int:
        """Bytes that one device holds of it."""
        size = lambda leaf: math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        return sum(map(size, jax.tree.leaves(tree)))

    def parts(policy_params, state, *critic) -> dict[str, int]:
        return {
            "parameters": held(policy_params),
            "optimiser state": held(state.opt_state),
            "critic and its optimiser": held(critic),
        }

    value_params = jax.eval_shape(lambda: objective.init_value_params(model)) if objective.critic else None
    if objective.critic:
        plain_model = model.clone(config=with_heads(model_config, 1))
        plain_axes = logical_axes(plain_model.config)
        plain = placed(param_shapes(plain_model.config), plain_axes)
        optimizer = make_optimizer(config.critic.optimizer, config.critic.steps)
        state = placed(jax.eval_shape(lambda tree: create_state(tree, optimizer), value_params), plain_axes)
        step = jax.jit(make_critic_step(plain_model, objective, optimizer), donate_argnums=1)
        rows = config.critic.batch_size
        flops = step_flops(plain_model.config, rows, length) / 3  # no gradient reaches the policy
        name = f"stage 1, {rows} rows of {length} tokens"
        yield name, flops, step, (plain, state, _batch(rows, length)), parts(plain, state, state.params)
    n_steps = config.train.steps
    optimizer = make_optimizer(config.optimizer, n_steps, freeze=config.freeze, head_weights=objective.head_weights)
    value_optimizer = make_optimizer(config.critic.stage2_optimizer, n_steps)
    create = lambda params, value_params: create_state(
        params, optimizer, value_params=value_params, value_optimizer=value_optimizer
    )
    state = placed(jax.eval_shape(create, params, value_params), axes)
    step = jax.jit(make_train_step(model, objective, optimizer, value_optimizer), donate_argnums=0)
    rows = config.train.batch_size
    critic = state.value_params, state.value_opt_state, state.target_value_params
    name = f"training step, {rows} rows of {length} tokens in {config.train.accumulation} micro-batches"
    flops = step_flops(model_config, rows, length)
    yield name, flops, step, (state, _batch(rows, length)), parts(state.params, state, *critic)


def _batch(rows: int, length: int) -> dict:
    """The shapes of a batch."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from wmtp_jax.parallel import BATCH_AXES

    sharding = NamedSharding(jax.sharding.get_mesh(), PartitionSpec(BATCH_AXES))
    whole, row = (rows, length), (rows,)
    fields = {
        "tokens": (whole, np.int32),
        "segment_ids": (whole, np.int32),
        "target_mask": (whole, np.bool_),
        "is_correct": (row, np.int8),
        "reference_nll": (whole, np.float32),
        "weights": (whole, np.float32),
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for name, (shape, dtype) in fields.items()}


def _architecture(config: Any):
    """Of the config's model; of Meta's 7B model also where it is not set up."""
    from converters.checkpoint import open_checkpoint
    from wmtp_jax.model import ModelConfig
    from wmtp_jax.storage import resolve
    from wmtp_jax.storage.catalogue import META_MTP
    from wmtp_jax.training.assets import architecture

    if not config.model.path:
        return architecture(config)
    path = resolve(config.model.path)
    if path.name == META_MTP and not path.exists():
        return ModelConfig(dim=4096, n_layers=32, n_heads=32, vocab_size=32000, n_future_tokens=4, ffn_dim=11008)
    return open_checkpoint(path).config


def _try_remedies(config: Any, needed: int, room: int) -> None:
    """Prints what each change, on top of those before it, brings; stops at the first that fits."""
    print(f"does not fit: {_size(needed)} needed, {_size(room)} there. Tried, each on top of those before:")
    shards = config.mesh.data * config.mesh.fsdp
    smallest = [n for n in (2, 4, 8, 16, 32, 64) if config.train.batch_size % (n * shards) == 0]
    remedies = [*_REMEDIES, *(("train.accumulation", n) for n in smallest if n > config.train.accumulation)]
    for name, value in remedies:
        group, field = name.split(".")
        if config[group][field] == value:
            continue
        config[group][field] = value
        print(f"\n--config.{name}={value}")
        if _print_steps(config) <= room:
            print("fits with these")
            return
    raise UserError(
        f"the step of {config.run_name} does not fit in {_size(room)} a device on this mesh; "
        "take more devices along fsdp or tensor, or a smaller batch"
    )


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.2f} MiB"


if __name__ == "__main__":
    sys.exit(main())
