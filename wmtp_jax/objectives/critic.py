"""What gives every position its value: a head on the policy's trunk, or a model of its own."""

import dataclasses

import jax
import jax.numpy as jnp

from wmtp_jax.model import MTPTransformer, ValueHead
from wmtp_jax.weighting import SURPRISE_FEATURES, running_surprise


@dataclasses.dataclass(frozen=True)
class Critic:
    """How values are computed; its parameters, `value_params`, are a tree of their own.

    Attributes:
        head: the value head.
        surprise: whether the head also sees the policy's surprise (`running_surprise`).
        trunk_gradient: factor on the value loss's gradient into the policy's trunk; 0 keeps it out.
        separate: the critic's own network; None puts the head on the policy's trunk.
    """

    head: ValueHead
    surprise: bool
    trunk_gradient: float = 0.0
    separate: MTPTransformer | None = None

    def init(self, key: jax.Array, policy: MTPTransformer, separate_params: dict | None = None) -> dict:
        """Fresh value parameters: the head, and beside it the separate network's own parameters."""
        width = (self.separate or policy).config.dim + 3 * len(SURPRISE_FEATURES) * self.surprise
        value_params = {"head": self.head.init(key, jnp.zeros((1, 1, width)))["params"]}
        return value_params if self.separate is None else value_params | {"model": separate_params}

    def value_logits(
        self, value_params: dict, batch: dict, normed_trunk_BxSxD: jax.Array, features_BxSx3: jax.Array | None
    ) -> jax.Array:
        """Log-odds that the whole solution is correct, after reading x_0..x_t.

        Args:
            value_params: as made by `init`.
            batch: `tokens`, `segment_ids`, `target_mask`, each [B, S].
            normed_trunk_BxSxD: the policy's trunk states after its final norm.
            features_BxSx3: the policy's surprise at each token read; None without `surprise`.

        Returns:
            fp32 [B, S].
        """
        if self.separate is None:
            inputs = _scaled_gradient(normed_trunk_BxSxD, self.trunk_gradient).astype(jnp.float32)
        else:
            variables = {"params": value_params["model"]}
            trunk = self.separate.apply(variables, batch["tokens"], batch["segment_ids"], method="trunk_states")
            states = self.separate.apply(variables, trunk, batch["segment_ids"], method="head_states")
            inputs = states[0].astype(jnp.float32)
        if self.surprise:
            inputs = jnp.concatenate([inputs, running_surprise(features_BxSx3, batch["target_mask"])], axis=-1)
        return self.head.apply({"params": value_params["head"]}, inputs)


def _scaled_gradient(x: jax.Array, factor: float) -> jax.Array:
    return jax.lax.stop_gradient(x) if factor == 0 else factor * x + (1 - factor) * jax.lax.stop_gradient(x)
