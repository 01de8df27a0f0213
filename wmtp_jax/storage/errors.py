"""What can go wrong with assets that the person at the keyboard can put right."""

from wmtp_jax.errors import UserError


class StorageError(UserError):
    """An asset that cannot be set up, or is not what it was."""
