"""Moving numbers between layouts: index by index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import fold
from converters.layout import AS_IS, ROPE_PERMUTED, TRANSPOSED, copy_tiled, from_weight, to_weight
from converters.tensor import is_finite, parse_dtype


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
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    order=st.permutations([0, 1, 2]),
    tile=st.integers(1, 4),
)
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
