"""What can go wrong in a run that the person at the keyboard can put right."""

from wmtp_jax.errors import UserError


class TrainingError(UserError):
    """A run that cannot start or cannot go on."""
