"""One training step: score the global batch, sum gradients over micro-batches, update (DESIGN 4)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from wmtp_jax.losses import coefficients, head_targets, linear_cross_entropy, target_weights, valid_targets
from wmtp_jax.model import MTPTransformer
from wmtp_jax.training.state import TrainState

Batch = dict[str, jax.Array]


def weighted_loss_and_gradients(
    model: MTPTransformer,
    params: dict,
    batch: Batch,
    weights_BxS: jax.Array,
    head_weights_N: jax.Array,
    *,
    accumulation: int = 1,
    chunk_length: int = 128,
) -> tuple[jax.Array, dict, dict]:
    """Loss, gradients and per-head sums of one global batch.

    loss = sum_k a_k (sum_t w[t+k] valid_k[t] nll_k[t]) / den_k with den_k = sum_t w[t+k] valid_k[t] over the global
    batch. Micro-batches add up; nothing is averaged afterwards, so their number changes the result by rounding only.

    Args:
        model: gives N and the compute dtype.
        params: fp32 parameter tree.
        batch: `tokens` int [B, S], `segment_ids` int [B, S], `target_mask` bool [B, S].
        weights_BxS: fp32 weight of each *target token*; read where the target mask is set.
        head_weights_N: a_k.
        accumulation: number of micro-batches, a divisor of B.
        chunk_length: positions per chunk of the cross-entropy.

    Returns:
        loss (fp32 scalar), gradients (as params), and {"nll_N": mean nll per head, "targets_N": number of targets}.
    """
    n_heads = model.config.n_future_tokens
    valid_NxBxS = valid_targets(batch["target_mask"], batch["segment_ids"], n_heads)
    weights_NxBxS = target_weights(weights_BxS, valid_NxBxS)
    coefficients_NxBxS = coefficients(weights_NxBxS, head_weights_N, weights_NxBxS.sum((1, 2)))
    targets_NxBxS = head_targets(batch["tokens"], n_heads)

    def micro_loss(params, micro):
        tokens, segment_ids, targets, coefficient, valid = micro
        trunk = model.apply({"params": params}, tokens, segment_ids, method="trunk_states")
        states = model.apply({"params": params}, trunk, segment_ids, method="head_states")
        kernel = model.apply({"params": params}, method="unembedding")
        loss, nll = linear_cross_entropy(states, kernel, targets, coefficient, chunk_length)
        return loss, jnp.where(valid, nll, 0.0).sum((1, 2))

    gradient = jax.value_and_grad(micro_loss, has_aux=True)
    whole = (batch["tokens"], batch["segment_ids"], targets_NxBxS, coefficients_NxBxS, valid_NxBxS)
    if accumulation == 1:
        (loss, nll_N), grads = gradient(params, whole)
    else:
        micros = tuple(_micro_batches(x, axis, accumulation) for x, axis in zip(whole, (0, 0, 1, 1, 1), strict=True))

        def add(total, micro):
            return jax.tree.map(jnp.add, total, gradient(params, micro)), None

        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradient, params, _first(micros)))
        ((loss, nll_N), grads), _ = jax.lax.scan(add, zero, micros)
    targets_N = valid_NxBxS.sum((1, 2))
    return loss, grads, {"nll_N": nll_N / jnp.maximum(targets_N, 1), "targets_N": targets_N}


def make_train_step(
    model: MTPTransformer,
    optimizer: optax.GradientTransformation,
    head_weights_N: jax.Array,
    *,
    accumulation: int = 1,
    chunk_length: int = 128,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The pure function (state, batch) -> (state, metrics); jit it once, with the state donated.

    A non-finite loss or gradient leaves parameters and optimiser untouched and is counted.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        weights_BxS = batch["target_mask"].astype(jnp.float32)
        loss, grads, heads = weighted_loss_and_gradients(
            model,
            state.params,
            batch,
            weights_BxS,
            head_weights_N,
            accumulation=accumulation,
            chunk_length=chunk_length,
        )
        gradient_norm = optax.global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

        def update(params, opt_state):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        params, opt_state = jax.lax.cond(
            finite, update, lambda params, opt_state: (params, opt_state), state.params, state.opt_state
        )
        state = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        )
        metrics = {
            "loss": loss,
            "gradient_norm": gradient_norm,
            "targets": heads["targets_N"][0],
            "skipped": state.skipped,
            "skipped_in_row": state.skipped_in_row,
        }
        return state, metrics | {f"loss_head_{k + 1}": nll for k, nll in enumerate(heads["nll_N"])}

    return train_step


def _micro_batches(x: jax.Array, batch_axis: int, accumulation: int) -> jax.Array:
    """[.., B, ..] -> [A, .., B/A, ..] with rows dealt out in turn, so that a sharded batch axis stays sharded."""
    B = x.shape[batch_axis]
    dealt = x.reshape(*x.shape[:batch_axis], B // accumulation, accumulation, *x.shape[batch_axis + 1 :])
    return jnp.moveaxis(dealt, batch_axis + 1, 0)


def _first(micros: tuple) -> tuple:
    return tuple(x[0] for x in micros)
