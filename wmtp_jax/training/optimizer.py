"""AdamW with warm-up, cosine decay and a global-norm clip."""

import jax
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
    """True on every matrix, False on norm scales: they have nothing to shrink towards."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "scale", params)


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """The update rule for `steps` steps.

    Args:
        config: the `optimizer` part of the training config.
        steps: length of the schedule.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        ),
    )
