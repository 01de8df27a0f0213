"""Which tensor is which parameter: names and shapes, without any weights."""

import json

import pytest

from converters.checkpoint import LAYOUTS
from converters.hugging_face import HUGGING_FACE
from converters.layout import Weight
from converters.meta import META
from wmtp_jax.model import ModelConfig, leaf_shapes, param_shapes
from wmtp_jax.tree import flatten_tree

SEVEN_B = ModelConfig(dim=4096, n_layers=32, n_heads=32, vocab_size=32000, n_future_tokens=4)


def test_the_7b_list_maps_completely(shared_data):
    listed = json.loads((shared_data.parent / "facts" / "meta_mtp_7b_1t_4.keys.json").read_text())
    expected = {name: tuple(shape) for name, shape in listed["tensors"].items()}
    assert META.tensor_shapes(SEVEN_B) == expected
    assert len(expected) == 291


def test_the_last_of_layers_is_head_one_and_not_trunk():
    refs = META.refs(SEVEN_B)
    assert refs[Weight("heads.attention.wq", 0)].tensor == "layers.28.attention.wq.weight"
    assert refs[Weight("trunk.attention.wq", 27)].tensor == "layers.27.attention.wq.weight"
    assert Weight("trunk.attention.wq", 28) not in refs
    assert [refs[Weight("heads.ffn_norm.scale", k)].tensor for k in (1, 2, 3)] == [
        f"extra_heads.{i}.ffn_norm.weight" for i in range(3)
    ]


def test_hugging_face_names_of_a_real_config():
    sheared = ModelConfig(dim=2560, n_layers=32, n_heads=20, vocab_size=32000, ffn_dim=6912)
    shapes = HUGGING_FACE.tensor_shapes(sheared)
    assert len(shapes) == 323 - 32  # The published file holds 32 rotary_emb.inv_freq besides.
    assert shapes["model.layers.31.mlp.down_proj.weight"] == (2560, 6912)
    assert HUGGING_FACE.ignored.fullmatch("model.layers.31.self_attn.rotary_emb.inv_freq")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_leaves_are_those_of_the_model(small, tied, heads):
    config = small(tie_embeddings=tied, n_future_tokens=heads)
    assert leaf_shapes(config) == {path: leaf.shape for path, leaf in flatten_tree(param_shapes(config), ".").items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_two_weights_share_a_tensor(small, layout):
    refs = LAYOUTS[layout].refs(small())
    assert len({(ref.tensor, ref.layer) for ref in refs.values()}) == len(refs)
