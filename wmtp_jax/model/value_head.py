"""The critic's last layer: from a state to the log-odds that the whole solution is correct."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class ValueHead(nn.Module):
    """Linear, or with one hidden layer; starts at 0, the value 1/2 everywhere.

    Attributes:
        width: of the hidden layer; 0 for a linear head.
    """

    width: int = 0

    @nn.compact
    def __call__(self, inputs_BxSxI: jax.Array) -> jax.Array:
        """Value logits fp32 [B, S]; V = sigmoid(logit)."""
        x = inputs_BxSxI.astype(jnp.float32)
        if self.width:
            x = nn.silu(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name="value")(x)[..., 0]
