"""Orders of large arrays are numpy's."""

import numpy as np
import pytest

from wmtp_jax.data.memory import stable_order


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_the_order_is_numpys_stable_one(n, dtype):
    keys = np.random.default_rng(0).integers(0, 100, n).astype(dtype)
    kept = keys.copy()
    order = stable_order(keys)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))
    np.testing.assert_array_equal(keys, kept)
