"""Which tensor is which parameter, by name, shape and index, and how numbers move between the two."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import small

from converters.checkpoint import LAYOUTS
from converters.errors import fold
from converters.hugging_face import HUGGING_FACE
from converters.layout import AS_IS, ROPE_PERMUTED, TRANSPOSED, Weight, copy_tiled, from_weight, to_weight
from converters.meta import META
from converters.tensor import is_finite, parse_dtype
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
    later = [refs[Weight("heads.ffn_norm.scale", k)].tensor for k in (1, 2, 3)]
    assert later == [f"extra_heads.{i}.ffn_norm.weight" for i in range(3)]


def test_hugging_face_names_of_a_real_config():
    sheared = ModelConfig(dim=2560, n_layers=32, n_heads=20, vocab_size=32000, ffn_dim=6912)
    shapes = HUGGING_FACE.tensor_shapes(sheared)
    assert len(shapes) == 323 - 32  # The published file holds 32 rotary_emb.inv_freq besides.
    assert shapes["model.layers.31.mlp.down_proj.weight"] == (2560, 6912)
    assert HUGGING_FACE.ignored.fullmatch("model.layers.31.self_attn.rotary_emb.inv_freq")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_leaves_are_those_of_the_model(tied, heads):
    config = small(tie_embeddings=tied, n_future_tokens=heads)
    assert leaf_shapes(config) == {path: leaf.shape for path, leaf in flatten_tree(param_shapes(config), ".").items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_two_weights_share_a_tensor(layout):
    refs = LAYOUTS[layout].refs(small())
    assert len({(ref.tensor, ref.layer) for ref in refs.values()}) == len(refs)


@settings(deadline=None)
@given(heads=st.integers(1, 4), half=st.integers(1, 5), width=st.integers(1, 7))
def test_half_split_rows_become_interleaved_per_head(heads, half, width):
    stored = np.arange(heads * 2 * half * width).reshape(heads * 2 * half, width)
    weight = to_weight(stored, ROPE_PERMUTED, stored.shape[::-1], 2 * half)
    for head in range(heads):
        for pair in range(half):
            for part in range(2):
                source_row = head * 2 * half + part * half + pair
                np.testing.assert_array_equal(weight[:, head * 2 * half + 2 * pair + part], stored[source_row])


@settings(deadline=None)
@given(transform=st.sampled_from([AS_IS, TRANSPOSED, ROPE_PERMUTED]), width=st.integers(1, 7), heads=st.integers(1, 5))
def test_transforms_are_inverse(transform, width, heads):
    weight = np.arange(width * heads * 6).reshape(width, heads * 6)
    stored = from_weight(weight, transform, 6)
    np.testing.assert_array_equal(to_weight(np.ascontiguousarray(stored), transform, weight.shape, 6), weight)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.permutations([0, 1, 2]), st.integers(1, 4))
def test_tiled_copy_is_assignment(shape, order, tile):
    axes = [axis for axis in order if axis < len(shape)]
    source = np.random.default_rng(0).integers(0, 1000, [shape[axis] for axis in axes]).transpose(np.argsort(axes))
    target = np.full(shape, -1)
    copy_tiled(target, source, tile)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_found(dtype, bad):
    values = np.linspace(-60000, 60000, 1000).astype(parse_dtype(dtype))
    assert is_finite(values)
    values[617] = bad
    assert not is_finite(values)


def test_layer_numbers_are_folded_and_gaps_stay_visible():
    names = [f"layers.{i}.attention.wq.weight" for i in (0, 1, 2, 5, 7, 8)] + ["norm.weight", "extra_heads.1.w.x"]
    assert fold(names) == ["layers.{0-2,5,7-8}.attention.wq.weight", "norm.weight", "extra_heads.1.w.x"]
