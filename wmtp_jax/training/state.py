"""Everything a training run must remember, as one pytree."""

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """Parameters, optimiser state and counters; the data iterator's state is checkpointed beside it.

    Attributes:
        step: int32, steps taken (skipped ones included).
        params: fp32 masters.
        opt_state: the optimiser's.
        skipped: int32, updates skipped for a non-finite loss or gradient.
        skipped_in_row: int32, the latest run of them.
    """

    step: jax.Array
    params: dict
    opt_state: optax.OptState
    skipped: jax.Array
    skipped_in_row: jax.Array


def create_state(params: dict, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step. Parameters become fp32 masters."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero(), params=params, opt_state=optimizer.init(params), skipped=zero(), skipped_in_row=zero()
    )
