"""The one exception of the data pipeline."""

from wmtp_jax.errors import UserError


class DataError(UserError):
    """A record, a tokenizer, the tokens in the cache or a setting of the batches cannot be used."""
