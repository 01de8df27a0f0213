"""Random models of every kind and a packed batch, with our side compiled once per model."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from wmtp_jax.losses import coefficients, head_targets, linear_cross_entropy, target_weights, valid_targets
from wmtp_jax.model import ModelConfig, MTPTransformer, param_shapes

S = 700


def random_params(config: ModelConfig, seed: int = 0) -> dict:
    """Random parameters with sharp attention and norm scales away from 1, so that every leaf matters."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "scale":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        fan_in = {"w2": config.ffn_dim, "wo": config.n_heads * config.head_dim, "wq": config.dim / 4}
        return jnp.asarray(rng.normal(0.0, fan_in.get(name, config.dim) ** -0.5, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(config))


class Batch:
    """Two rows of 700: two documents and padding, and one long document; random targets and weights."""

    def __init__(self, vocab_size: int):
        rng = np.random.default_rng(1)
        self.tokens = rng.integers(0, vocab_size, (2, S))
        self.segment_ids = np.stack([np.repeat([1, 2, 0], [300, 350, 50]), np.full(S, 7)])
        self.target_mask = (rng.random((2, S)) < 0.7) & (self.segment_ids != 0)
        self.target_mask[1, :40] = False
        self.weights = rng.lognormal(0.0, 1.0, (2, S)).astype(np.float32)


class Case:
    """One architecture: parameters, batch, and our logits, loss and gradients."""

    def __init__(self, **architecture):
        odd = {"dim": 45, "n_heads": 9, "head_dim": 6, "ffn_dim": 95, "vocab_size": 131}
        self.config = ModelConfig(**{**odd, **architecture})
        self.params = random_params(self.config)
        self.batch = Batch(self.config.vocab_size)
        self._compiled_logits = {}
        self._compiled_gradients = {}

    def logits(self, attention: str = "dense", segment_ids=None, dtype=jnp.float32) -> np.ndarray:
        """Logits [B, S, N, V] of the batch's tokens; None takes the batch's own segments."""
        model = MTPTransformer(self.config, dtype, attention=attention)
        key = (attention, dtype)
        if key not in self._compiled_logits:
            self._compiled_logits[key] = jax.jit(lambda params, *args: model.apply({"params": params}, *args))
        segment_ids = self.batch.segment_ids if segment_ids is None else segment_ids
        return np.asarray(self._compiled_logits[key](self.params, self.batch.tokens, segment_ids))

    def loss_and_gradients(self, weights, head_weights, attention: str = "dense", segment_ids=None):
        """Loss, nll [N, B, S] and gradient tree under token weights [B, S] and head weights [N]."""
        if attention not in self._compiled_gradients:
            self._compiled_gradients[attention] = jax.jit(
                jax.value_and_grad(functools.partial(self._objective, attention), has_aux=True)
            )
        segment_ids = self.batch.segment_ids if segment_ids is None else segment_ids
        (loss, nll), gradients = self._compiled_gradients[attention](
            self.params, self.batch.tokens, segment_ids, weights, jnp.asarray(head_weights, jnp.float32)
        )
        return float(loss), np.asarray(nll), gradients

    def _objective(self, attention, params, tokens, segment_ids, weights, head_weights):
        model = MTPTransformer(self.config, attention=attention)
        apply = functools.partial(model.apply, {"params": params})
        hidden = apply(apply(tokens, segment_ids, method="trunk_states"), segment_ids, method="head_states")
        N = self.config.n_future_tokens
        valid = valid_targets(jnp.asarray(self.batch.target_mask), segment_ids, N)
        weights_NxBxS = target_weights(weights, valid)
        denominators = jnp.sum(weights_NxBxS, axis=(1, 2))
        kernel = apply(method="unembedding")
        coefficients_NxBxS = coefficients(weights_NxBxS, head_weights, denominators)
        return linear_cross_entropy(hidden, kernel, head_targets(tokens, N), coefficients_NxBxS)


CASES = {
    f"{attention}-{embeddings}-N{N}": {
        "n_kv_heads": {"GQA": 3, "MHA": 9}[attention],
        "tie_embeddings": embeddings == "tied",
        "n_future_tokens": N,
        "n_layers": N + 2,
        "rope_theta": {"GQA": 10000.0, "MHA": 500000.0}[attention],
    }
    for attention, embeddings, N in itertools.product(("GQA", "MHA"), ("tied", "untied"), (1, 4))
}


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """These models are too small for more, and threads that wait for each other stall on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=CASES)
def case(request) -> Case:
    """Each of {GQA, MHA} x {tied, untied} x {1, 4 heads}, all sizes odd."""
    return Case(**CASES[request.param])


@pytest.fixture(scope="session")
def new_case():
    """Makes a further case from architecture fields."""
    return Case


@pytest.fixture(scope="session")
def shared_facts(shared_data):
    """Published names and shapes beside the project."""
    return shared_data.parent / "facts"
