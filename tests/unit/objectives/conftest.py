"""What the tests of objectives share."""

import pytest

from wmtp_jax.data import load_tokenizer


@pytest.fixture(scope="session")
def tokenizer(root):
    """Of the embedded models: 1024 pieces."""
    return load_tokenizer(root / "storage/models_v2/micro-mtp/tokenizer.model")
