"""Products with kernels whose gradients are formed without transposing the larger side."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def linear(spec: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """einsum(spec, x, kernel); reverse-mode differentiation only (no jax.jvp).

    The value and both gradients are those of the einsum. But autodiff forms the kernel's gradient as (cotangent, x), of
    which XLA's CPU backend transposes the cotangent, with all that was fused into it, and the result back; as (x,
    cotangent) it transposes x, which several kernels share.

    Args:
        spec: of the einsum, e.g. "BSD,DF->BSF".
        x: activations.
        kernel: weights, of the same dtype.

    Returns:
        Their product.
    """
    return jnp.einsum(spec, x, kernel)


def _forward(spec, x, kernel):
    return jnp.einsum(spec, x, kernel), (x, kernel)


def _backward(spec, residuals, cotangent):
    x, kernel = residuals
    inputs, output = spec.split("->")
    of_x, of_kernel = inputs.split(",")
    dx = jnp.einsum(f"{output},{of_kernel}->{of_x}", cotangent, kernel)
    return dx, jnp.einsum(f"{of_x},{output}->{of_kernel}", x, cotangent)


linear.defvjp(_forward, _backward)
