"""What a person can get wrong about weighted training: one sentence, exit code 2, and nothing trained."""

import gzip
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import converters
from configs import rho1_weighted
from wmtp_jax.model import ModelConfig, param_shapes
from wmtp_jax.objectives.rho1 import Rho1
from wmtp_jax.objectives.score_cache import cached_scores
from wmtp_jax.train import main
from wmtp_jax.training.assets import digest_inputs, load_assets

CONFIG = """
from configs import defaults

def get_config():
    config = defaults.get_config()
    config.objective = "verifiable"
    config.model.tokenizer = "storage/models_v2/micro-mtp/tokenizer.model"
    config.data.buckets = (128,)
    config.train.batch_size = 4
    config.critic.batch_size = 4
    config.evaluation.problems = 0
    config.mlflow = False
    return config
"""

TINY = ModelConfig(dim=16, n_layers=2, n_heads=2, vocab_size=1024, ffn_dim=24, max_seq_len=128)


@pytest.fixture(scope="module")
def place(tmp_path_factory, root) -> Path:
    """A config, a tiny model, and the first 30 validation records as data.jsonl."""
    place = tmp_path_factory.mktemp("wrong")
    (place / "tiny.py").write_text(CONFIG)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), param_shapes(TINY))
    converters.save_tree(place / "model", TINY, zeros)
    with gzip.open(root / "storage/datasets_v2/microcode/valid.jsonl.gz", "rt", encoding="utf-8") as file:
        (place / "data.jsonl").write_text("".join(next(file) for _ in range(30)), encoding="utf-8")
    return place


@pytest.fixture
def refusal(place, tmp_path, capsys):
    """Runs the trainer on changed records and with flags, and returns the one sentence that it answers with."""

    def run(*flags: str, change=lambda number, record: record) -> str:
        records = [json.loads(line) for line in (place / "data.jsonl").read_text(encoding="utf-8").splitlines()]
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(change(i, r)) + "\n" for i, r in enumerate(records)), encoding="utf-8")
        paths = [f"--config.data.{split}={data}" for split in ("train", "valid")]
        arguments = ["--config", str(place / "tiny.py"), "--workdir", str(tmp_path / "runs"), "--run_name=wrong"]
        arguments.append(f"--config.model.path={place / 'model'}")
        assert main([*arguments, *paths, *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert len(error) < 1000
        assert not list(tmp_path.glob("runs/wrong/*checkpoints/*"))
        assert not (tmp_path / "runs/wrong/export").exists()
        return error

    return run


def test_a_changed_byte_of_a_model_is_a_changed_input(place, tmp_path):
    config = rho1_weighted.get_config()
    config.data.train = config.data.valid = str(place / "data.jsonl")
    config.model.tokenizer = f"{config.model.path}/tokenizer.model"
    for group, field in (("model", "path"), ("rho1", "reference")):
        config[group][field] = str(shutil.copytree(place / "model", tmp_path / field))
    assets = load_assets(config, Rho1)
    before = digest_inputs(config, Rho1, assets)
    assert before.keys() == {"model.tokenizer", "model.path", "data.train", "data.valid", "rho1.reference"}
    assert before["rho1.reference"] == before["model.path"] | {"path": str(tmp_path / "reference")}
    (weights,) = (tmp_path / "reference").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    after = digest_inputs(config, Rho1, assets)
    assert [field for field in before if after[field] != before[field]] == ["rho1.reference"]


def test_packed_rows(refusal):
    assert "config.data.pack is on, but a critic needs one solution per row" in refusal("--config.data.pack=True")


def test_unlabelled_records(refusal):
    unlabel = lambda number, record: record | ({"is_correct": None} if number == 7 else {})
    error = refusal(change=unlabel)
    assert re.search(r"data\.jsonl: 1 of \d+ examples have no label \(is_correct null\), the first is '.*'", error)


@pytest.mark.parametrize(("label", "missing"), [(True, "incorrect"), (False, "correct")])
def test_only_one_class(refusal, label, missing):
    error = refusal(change=lambda number, record: record | {"is_correct": label})
    assert re.search(rf"data\.jsonl: none of the \d+ examples is labelled {missing}; expected both labels", error)


def test_pairs_that_do_not_exist(refusal):
    apart = lambda number, record: record | {"task_id": f"alone{number}_correct_0"}
    assert "no problem has both a correct and an incorrect solution, so there are no pairs" in refusal(change=apart)


def test_a_critic_that_does_not_exist(refusal, tmp_path):
    assert re.search(r"critic .*nowhere cannot be read", refusal(f"--config.critic.path={tmp_path / 'nowhere'}"))


def test_a_cache_of_another_model(refusal, tmp_path):
    """The file is where this run would put it, but its key names other weights."""
    cache = tmp_path / "runs" / "reference_cache" / f"reference-{tmp_path.name}-data-micro-ref.safetensors"
    cached_scores(cache, {"the config or weights of the reference": "another"}, lambda: np.zeros(3, np.float32))
    error = refusal("--config.objective=rho1")
    assert f"{cache} holds stale scores: the config or weights of the reference and " in error
    assert "delete that file to have the scores computed anew" in error


def test_a_reference_that_does_not_exist(refusal, tmp_path):
    error = refusal("--config.objective=rho1", f"--config.rho1.reference={tmp_path / 'nowhere'}")
    assert str(tmp_path / "nowhere") in error
