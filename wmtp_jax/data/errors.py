"""The one exception of the data pipeline."""

from wmtp_jax.errors import UserError


class DataError(UserError):
    """A file of records, a tokenizer or a batch setting cannot be used; the sentence names file and line."""
