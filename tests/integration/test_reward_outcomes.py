"""A run's data get their outcomes from a reward model that was set up from published files."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from published_models import write_starling

from configs import verifiable
from wmtp_jax.data import read_records
from wmtp_jax.objectives.score_cache import data_name
from wmtp_jax.objectives.verifiable import Verifiable
from wmtp_jax.storage.models import set_up_model
from wmtp_jax.training.assets import load_assets


@pytest.fixture
def config(root, tmp_path):
    """A run on forty solutions that nobody has labelled."""
    tokenizer = root / "storage/models_v2/micro-mtp/tokenizer.model"
    write_starling(tmp_path / "published", 16, 2, 4, 1024)
    set_up_model("starling-rm-7b", tmp_path / "published", tmp_path, origin="here", tokenizer=tokenizer)
    records = itertools.islice(read_records(root / "storage/datasets_v2/microcode/valid.jsonl.gz"), 40)
    lines = [json.dumps(vars(record) | {"is_correct": None}) + "\n" for record in records]
    for name, part in (("train", lines[:32]), ("valid", lines[32:])):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress("".join(part).encode()))
    config = verifiable.get_config()
    config.data.train, config.data.valid = str(tmp_path / "train.jsonl.gz"), str(tmp_path / "valid.jsonl.gz")
    config.data.reward, config.data.reward_model = "reward_model", str(tmp_path / "models_v2/starling-rm-7b")
    config.evaluation.problems = 0
    return config


def test_unlabelled_solutions_get_outcomes(config, tmp_path, capsys):
    assets = load_assets(config, Verifiable)
    assert set(assets.train.is_correct) == {-1}
    prepare = lambda: Verifiable(config, 4).prepare(assets.train, assets.labelled, assets.tokenizer, tmp_path)
    train, labelled = prepare()
    assert np.bincount(train.is_correct).tolist() == [16, 16]
    assert set(labelled.is_correct) <= {0, 1}
    np.testing.assert_allclose(np.median(train.rewards), 0.5, atol=1e-6)
    assert np.std(train.rewards) > 1e-3
    first = capsys.readouterr().out
    assert "scoring 32 solutions once" in first
    assert "no known outcomes to compare the scores with" in first

    np.testing.assert_array_equal(prepare()[0].rewards, train.rewards)
    assert capsys.readouterr().out.count("read from") == 2


def test_data_sets_of_one_layout_have_caches_of_their_own():
    names = [
        data_name(Path("storage/datasets_v2", *rest))
        for rest in (
            ("codecontests", "processed", "train.jsonl"),
            ("codecontests-small", "processed", "train.jsonl"),
            ("microcode", "train.jsonl.gz"),
        )
    ]
    assert names == ["codecontests-train", "codecontests-small-train", "microcode-train"]
