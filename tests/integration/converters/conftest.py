"""Small sound models as the command line finds them, and what it prints."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import converters
from wmtp_jax.model import ModelConfig, leaf_shapes
from wmtp_jax.tree import unflatten_tree

CONFIG = ModelConfig(dim=24, n_layers=5, n_heads=6, n_kv_heads=2, vocab_size=37, ffn_dim=43, n_future_tokens=2)
PLAIN = ModelConfig(dim=24, n_layers=3, n_heads=6, n_kv_heads=2, vocab_size=37, ffn_dim=43)


def draw_params(config: ModelConfig) -> dict:
    """Random parameters of which every one matters, without compiling anything."""
    rng = np.random.default_rng(1)
    widths = {leaf: 1 if leaf.endswith("scale") else config.dim**0.5 for leaf in leaf_shapes(config)}
    shapes = leaf_shapes(config).items()
    return unflatten_tree({leaf: rng.standard_normal(shape, np.float32) / widths[leaf] for leaf, shape in shapes}, ".")


@pytest.fixture(scope="session")
def random_params():
    """Makes the parameters of a config."""
    return draw_params


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """One model per layout, single and sharded."""
    root = tmp_path_factory.mktemp("models")
    params = draw_params(CONFIG)
    converters.save_meta(root / "meta", CONFIG, params)
    converters.save_meta(root / "sharded", CONFIG, params, max_shard_bytes=20_000)
    converters.save_hf(root / "hf", PLAIN, draw_params(PLAIN))
    for name in ("meta", "sharded", "hf"):
        (root / name / "tokenizer.model").write_bytes(b"pieces")
        (root / name / "manifest.json").unlink()
    converters.save_tree(root / "flax", CONFIG, params)  # The one with a manifest.
    return root


@pytest.fixture
def model(sources, tmp_path):
    """A copy of one of them, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(sources / name, tmp_path / "source"))

    return copy


@pytest.fixture
def run(capsys):
    """Runs the command in this process: its exit code, what it printed, and its one error without progress lines."""
    from converters.__main__ import main

    def command(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert err.count("error: ") == (code == 2), err
        return code, out, err[err.find("error: ") :] if code else err

    return command
