"""AdamW with warm-up, cosine decay and a global-norm clip; parts of the parameters may stay as they are."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import optax


def learning_rate(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Linear warm-up to the peak, then cosine decay to `final_fraction` of it at the last step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, steps - 1),
        decay_steps=steps,
        end_value=config.final_fraction * config.learning_rate,
    )


def decay_mask(params: dict) -> dict:
    """True on every matrix, False on norm scales and biases: they have nothing to shrink towards."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)


def make_optimizer(
    config: ml_collections.ConfigDict,
    steps: int,
    *,
    freeze: Sequence[str] = (),
    head_weights: Sequence[float] = (),
) -> optax.GradientTransformation:
    """The update rule for a schedule of `steps` steps.

    Args:
        config: learning_rate, warmup_steps, final_fraction, b1, b2, eps, weight_decay, clip_norm.
        steps: length of the schedule.
        freeze: regular expressions; a parameter whose path (`trunk/attention/wq`) starts with a match is not touched.
        head_weights: a_k; a head of weight 0 is not touched, by weight decay neither. () touches all.
    """
    only_trained = optax.stateless(lambda updates, _: _without_frozen(updates, freeze, head_weights))
    return optax.chain(
        only_trained,
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        ),
        only_trained,
    )


def _without_frozen(updates: dict, freeze: Sequence[str], head_weights: Sequence[float]) -> dict:
    untouched_heads = jnp.array([weight == 0 for weight in head_weights], bool)

    def keep(path, update):
        if any(re.match(pattern, "/".join(key.key for key in path)) for pattern in freeze):
            return jnp.zeros_like(update)
        if path[0].key == "heads" and any(weight == 0 for weight in head_weights):
            return jnp.where(untouched_heads.reshape(-1, *[1] * (update.ndim - 1)), 0.0, update)
        return update

    return jax.tree_util.tree_map_with_path(keep, updates)
