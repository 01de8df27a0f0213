"""What the person at the keyboard can correct in an evaluation."""

from wmtp_jax.errors import UserError


class EvaluationError(UserError):
    """A benchmark, a sample file or an option that does not fit, in one sentence."""
