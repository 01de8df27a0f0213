"""Records to tokens to fixed-shape batches. Numpy only: batches reach jax as arrays."""

from wmtp_jax.data.batches import Batch, TrainingBatches, evaluation_batches, make_batches
from wmtp_jax.data.encoding import Example, encode_prompt, encode_record
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Counts, Examples, from_examples, load_examples
from wmtp_jax.data.pairs import length_balanced_pairs
from wmtp_jax.data.records import UNKNOWN, Record, read_records, task_of
from wmtp_jax.data.sampling import Sampling, require_labels
from wmtp_jax.data.templates import TEMPLATES, render
from wmtp_jax.data.token_store import TokenStore, open_store
from wmtp_jax.data.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "TEMPLATES",
    "UNKNOWN",
    "Batch",
    "Counts",
    "DataError",
    "Example",
    "Examples",
    "Record",
    "Sampling",
    "TokenStore",
    "Tokenizer",
    "TrainingBatches",
    "encode_prompt",
    "encode_record",
    "evaluation_batches",
    "from_examples",
    "length_balanced_pairs",
    "load_examples",
    "load_tokenizer",
    "make_batches",
    "open_store",
    "read_records",
    "render",
    "require_labels",
    "task_of",
]
