"""Loading straight into the shards of eight simulated devices gives the numbers of plain loading."""

import os
import subprocess
import sys

import converters
from wmtp_jax.model import ModelConfig

CONFIG = ModelConfig(dim=32, n_layers=8, n_heads=8, n_kv_heads=4, vocab_size=48, ffn_dim=40, n_future_tokens=4)

LOAD_SHARDED = """
import sys
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import converters
from wmtp_jax.model import param_shapes

directory = sys.argv[1]
mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
layouts = {1: P(), 2: P("tensor", "fsdp"), 3: P(None, "fsdp", "tensor"), 4: P("fsdp", None, "tensor", None)}
config, plain = converters.load(directory)
shardings = jax.tree.map(lambda leaf: NamedSharding(mesh, layouts[leaf.ndim]), param_shapes(config))
_, sharded = converters.load(directory, shardings=shardings)
for path, leaf in jax.tree_util.tree_leaves_with_path(sharded):
    expected = plain
    for key in path:
        expected = expected[key.key]
    np.testing.assert_array_equal(leaf, expected, err_msg=str(path))
    assert leaf.sharding.spec == layouts[leaf.ndim]
assert len(sharded["trunk"]["attention"]["wq"].addressable_shards) == 8
assert sharded["trunk"]["attention"]["wq"].addressable_shards[0].data.shape == (1, 32, 4, 4)
converters.save_meta(directory + "-again", config, sharded)
print("equal")
"""


def test_eight_devices(root, tmp_path, random_params):
    converters.save_meta(tmp_path / "model", CONFIG, random_params(CONFIG))
    done = subprocess.run(
        [sys.executable, "-c", LOAD_SHARDED, str(tmp_path / "model")],
        cwd=root,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
    first, second = (tmp_path / name / "consolidated.safetensors" for name in ("model", "model-again"))
    assert first.read_bytes() == second.read_bytes()
