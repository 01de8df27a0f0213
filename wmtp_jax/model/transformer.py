"""The multi-token-prediction LLaMA (Gloeckle et al. 2024, arXiv 2404.19737): a trunk, N parallel head layers."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmtp_jax.model.attention import ATTENTION
from wmtp_jax.model.block import Block, RMSNorm
from wmtp_jax.model.config import ModelConfig, ModelConfigError
from wmtp_jax.model.rope import rope_table
from wmtp_jax.parallel import constrain

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Unembedding(nn.Module):
    """Output kernel [D, V], absent when embeddings are tied."""

    config: ModelConfig

    @nn.compact
    def __call__(self) -> jax.Array:
        D, V = self.config.dim, self.config.vocab_size
        init = nn.with_logical_partitioning(nn.initializers.truncated_normal(D**-0.5), ("embed", "vocab"))
        return self.param("kernel", init, (D, V), jnp.float32)


class MTPTransformer(nn.Module):
    """Trunk of L layers and N heads that all read its output; head k predicts the k-th next token.

    Attributes:
        config: the architecture.
        dtype: of the computation; parameters are fp32 masters, logits and softmax are fp32 always.
        remat: what a layer keeps for its backward pass: "none" (everything), "dots" (matmul results), "full" (nothing).
        attention: "dense", or "blocked" over queries for long sequences.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    attention: str = "dense"

    def setup(self):
        if self.remat not in REMAT:
            raise ModelConfigError(f"remat is {self.remat!r}; expected one of {', '.join(REMAT)}")
        if self.attention not in ATTENTION:
            raise ModelConfigError(f"attention is {self.attention!r}; expected one of {', '.join(ATTENTION)}")
        block = Block if self.remat == "none" else nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False)
        V, D = self.config.vocab_size, self.config.dim
        init = nn.with_logical_partitioning(nn.initializers.normal(D**-0.5), ("vocab", "embed"))
        self.tok_embeddings = nn.Embed(V, D, embedding_init=init)
        self.trunk = block(self.config, self.dtype, self.attention)
        self.heads = block(self.config, self.dtype, self.attention)
        self.norm = RMSNorm(self.config.norm_eps, self.dtype)
        if not self.config.tie_embeddings:
            self.output = Unembedding(self.config)

    def embedded(self, tokens_BxS) -> jax.Array:
        """Embeddings of tokens: [B, S, D]."""
        table_VxD = constrain(self.tok_embeddings.embedding, "vocab", None)
        return constrain(jnp.take(table_VxD, tokens_BxS, axis=0).astype(self.dtype), "batch", None, None)

    def trunk_states(self, tokens_BxS, segment_ids_BxS=None) -> jax.Array:
        """Output of the last trunk layer, before any norm: [B, S, D]."""
        rope = rope_table(_positions(tokens_BxS), self.config)

        def body(block, hidden, _):
            return block(hidden, rope, segment_ids_BxS)[0], None

        trunk = _stacked(body, self.config.n_trunk_layers, "layers")
        return trunk(self.trunk, self.embedded(tokens_BxS), None)[0]

    def head_states(self, trunk_BxSxD, segment_ids_BxS=None) -> jax.Array:
        """States of every head after the shared final norm: [N, B, S, D], ready for the unembedding."""
        rope = rope_table(_positions(trunk_BxSxD), self.config)

        def body(block, carry, _):
            states, _ = block(trunk_BxSxD, rope, segment_ids_BxS)
            return carry, states

        _, states_NxBxSxD = _stacked(body, self.config.n_future_tokens, "future_tokens")(self.heads, (), None)
        return self.norm(states_NxBxSxD)

    def normed(self, states) -> jax.Array:
        """The shared final norm of any states [..., D]."""
        return self.norm(states)

    def unembedding(self) -> jax.Array:
        """The kernel [D, V] (fp32) that turns head states into logits."""
        kernel_DxV = self.tok_embeddings.embedding.T if self.config.tie_embeddings else self.output()
        return constrain(kernel_DxV, None, "vocab")  # gathered here, once, and not in every chunk of positions

    def logits(self, states) -> jax.Array:
        """fp32 logits [..., V] of head states [..., D]."""
        kernel = self.unembedding().astype(self.dtype)
        return jnp.matmul(states, kernel, preferred_element_type=jnp.float32)

    def __call__(self, tokens_BxS, segment_ids=None) -> jax.Array:
        """Logits of every head, fp32 [B, S, N, V]: entry [b, t, k] is the distribution of token t + k + 1.

        Segment ids [B, S] are equal within a document and 0 on padding; None means one document per row.
        """
        states_NxBxSxD = self.head_states(self.trunk_states(tokens_BxS, segment_ids), segment_ids)
        return self.logits(jnp.moveaxis(states_NxBxSxD, 0, 2))


def _stacked(body, length: int, axis_name: str):
    return nn.scan(
        body,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=length,
        metadata_params={nn.PARTITION_NAME: axis_name},
    )


def _positions(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])


def init_params(config: ModelConfig, seed: int = 0, shardings: dict | None = None) -> dict:
    """Fresh fp32 parameters, as a plain tree, each leaf made in its shards (logical axis names: `logical_axes`)."""
    init = jax.jit(lambda key: nn.meta.unbox(_init_boxed(config, key)), out_shardings=shardings)
    return init(jax.random.key(seed))


def param_shapes(config: ModelConfig) -> dict:
    """The parameter tree as fp32 `jax.ShapeDtypeStruct`s."""
    return nn.meta.unbox(jax.eval_shape(lambda: _init_boxed(config, jax.random.key(0))))


def logical_axes(config: ModelConfig) -> dict:
    """The parameter tree with a `PartitionSpec` of logical axis names per leaf."""
    return nn.get_partition_spec(jax.eval_shape(lambda: _init_boxed(config, jax.random.key(0))))


def _init_boxed(config: ModelConfig, key: jax.Array) -> dict:
    return MTPTransformer(config).init(key, jnp.zeros((1, 2), jnp.int32))["params"]


def with_heads(config: ModelConfig, n_future_tokens: int) -> ModelConfig:
    """The architecture with the same trunk and another number of heads."""
    n_layers = config.n_trunk_layers + n_future_tokens
    return dataclasses.replace(config, n_layers=n_layers, n_future_tokens=n_future_tokens)
