"""Everything a training run must remember, as one pytree."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from wmtp_jax.weighting import Statistics, init_statistics


@flax.struct.dataclass
class TrainState:
    """Parameters, optimiser states and counters; the data iterator's state is checkpointed beside it.

    Attributes:
        step: int32, steps taken (skipped ones included).
        params: what is trained, as fp32 masters: the policy in stage 2, the critic in stage 1.
        opt_state: the optimiser's, of params.
        rng: uint32 key data; the key of a step is folded from it and the step.
        skipped: int32, updates skipped for a non-finite loss or gradient.
        skipped_in_row: int32, the latest run of them.
        statistics: running moments of the advantages.
        value_params: of the critic that continues to learn beside the policy; None without one.
        value_opt_state: the critic's optimiser's.
        target_value_params: slow copy of the critic, which anchors the clipped value loss.
    """

    step: jax.Array
    params: dict
    opt_state: optax.OptState
    rng: jax.Array
    skipped: jax.Array
    skipped_in_row: jax.Array
    statistics: Statistics
    value_params: dict | None = None
    value_opt_state: optax.OptState | None = None
    target_value_params: dict | None = None


def create_state(
    params: dict,
    optimizer: optax.GradientTransformation,
    *,
    seed: int = 0,
    value_params: dict | None = None,
    value_optimizer: optax.GradientTransformation | None = None,
) -> TrainState:
    """The state before the first step. Parameters become fp32 masters."""
    params, value_params = _masters(params), _masters(value_params)
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero(),
        params=params,
        opt_state=optimizer.init(params),
        rng=jax.random.key_data(jax.random.key(seed)),
        skipped=zero(),
        skipped_in_row=zero(),
        statistics=init_statistics(),
        value_params=value_params,
        value_opt_state=None if value_params is None else value_optimizer.init(value_params),
        target_value_params=jax.tree.map(jnp.copy, value_params),
    )


def _masters(params: dict | None) -> dict | None:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
