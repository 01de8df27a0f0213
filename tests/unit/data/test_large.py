"""Functions that go through arrays in parts give what numpy gives at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_jax.data import large, plan
from wmtp_jax.data.columns import map_columns, write_columns

numbers = st.lists(st.integers(0, 20), min_size=1, max_size=60).map(lambda values: np.array(values, np.int32))


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "_AT_ONCE", 7)
        patch.setattr(plan, "_DRAWN_AT_ONCE", 7)
        yield


@given(numbers)
def test_parts_make_the_whole(values):
    np.testing.assert_array_equal(
        large.rows_where(values > 9), np.flatnonzero(values > 9).astype(np.int32), strict=True
    )
    np.testing.assert_array_equal(large.count(values, 21), np.bincount(values, minlength=21))
    order: dict[int, int] = {}
    expected = [order.setdefault(value, len(order)) for value in values.tolist()]
    np.testing.assert_array_equal(large.order_of_appearance(values), np.array(expected, np.int32), strict=True)


@given(numbers, st.integers(0, 5))
def test_each_is_drawn_as_often_as_its_weight_says(values, epoch):
    weights = values + 1.0
    counts = np.bincount(plan.weighted_draw(weights, epoch), minlength=len(weights))
    share = len(weights) * weights / weights.sum()
    assert counts.sum() == len(weights)
    assert (np.abs(counts - share) < 1 + 1e-9).all()


def test_columns_come_back_from_parts(tmp_path):
    parts = [
        {"a": np.arange(n, dtype=np.int8), "b": np.arange(n) * 2**40, "c": np.arange(n, dtype=np.uint32)}
        for n in (3, 0, 4)
    ]
    write_columns(tmp_path / "x", parts, {"what": ["ä", 1]})
    columns = map_columns(tmp_path / "x")
    assert columns.metadata == {"what": ["ä", 1]}
    for name in parts[0]:
        whole = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(columns[name], whole, strict=True)
        columns.release()
        np.testing.assert_array_equal(columns[name], whole, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
