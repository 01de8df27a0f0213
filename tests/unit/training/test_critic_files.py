"""A critic comes back bit for bit, and only into a run that it fits."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from wmtp_jax.training.critic_files import load_critic, save_critic
from wmtp_jax.training.errors import TrainingError

SETTINGS = {"width": 3, "surprise": True, "model": "", "gamma": 1.0}
MEASURES = {"value_auc": 0.875}


def head(inputs=4, width=3, seed=0) -> dict:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    layers = {"value": {"kernel": draw(width or inputs, 1), "bias": draw(1)}}
    return {"head": layers | ({"hidden": {"kernel": draw(inputs, width), "bias": draw(width)}} if width else {})}


@pytest.fixture
def saved(tmp_path):
    save_critic(tmp_path / "critic", head(), SETTINGS, MEASURES)
    return tmp_path / "critic"


def test_round_trip_is_exact(saved):
    like = jax.tree.map(jnp.zeros_like, head())
    loaded = load_critic(saved, like, SETTINGS)
    assert jax.tree.structure(loaded) == jax.tree.structure(head())
    jax.tree.map(np.testing.assert_array_equal, loaded, head())
    assert json.loads((saved / "critic.json").read_text()) == {"settings": SETTINGS, "valid": MEASURES}


def test_strided_parameters_are_written_whole(tmp_path):
    strided = {
        "head": {"value": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4).T[:, :1], "bias": np.ones(1)}}
    }
    save_critic(tmp_path / "critic", strided, SETTINGS, {})
    jax.tree.map(np.testing.assert_array_equal, load_critic(tmp_path / "critic", strided, SETTINGS), strided)


def test_a_later_critic_takes_the_place_of_an_earlier_one(saved):
    save_critic(saved, head(seed=1), SETTINGS, MEASURES)
    jax.tree.map(np.testing.assert_array_equal, load_critic(saved, head(), SETTINGS), head(seed=1))
    assert [path.name for path in saved.parent.iterdir()] == ["critic"]


def test_a_killed_save_leaves_the_earlier_critic(saved, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("wmtp_jax.training.critic_files.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_critic(saved, head(seed=1), SETTINGS, MEASURES)
    jax.tree.map(np.testing.assert_array_equal, load_critic(saved, head(), SETTINGS), head())
    monkeypatch.undo()
    save_critic(saved, head(seed=2), SETTINGS, MEASURES)  # over what the killed one left
    jax.tree.map(np.testing.assert_array_equal, load_critic(saved, head(), SETTINGS), head(seed=2))


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        (head(inputs=5), r"head/hidden/kernel has shape \(4, 3\), this run needs \(5, 3\); it belongs to a model of"),
        (head(width=2), r"head/hidden/bias has shape \(3,\), this run needs \(2,\)"),
        (head(width=0), r"head/hidden/bias has shape \(3,\), this run needs None"),
        (head() | {"model": {"norm": jnp.ones(2)}}, r"model/norm has shape None, this run needs \(2,\)"),
    ],
)
def test_a_critic_of_another_shape_is_refused(saved, like, sentence):
    with pytest.raises(TrainingError, match=sentence):
        load_critic(saved, like, SETTINGS)


@pytest.mark.parametrize(("name", "value"), [("surprise", False), ("gamma", 0.9), ("model", "another"), ("new", 1)])
def test_a_critic_of_other_settings_is_refused(saved, name, value):
    with pytest.raises(
        TrainingError, match=f"was trained with {name} .*, this run has {re.escape(repr(value))}; train"
    ):
        load_critic(saved, head(), SETTINGS | {name: value})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(saved, bad):
    leaves = load_file(saved / "critic.safetensors")
    leaves["head/value/bias"][0] = bad
    save_file(leaves, saved / "critic.safetensors")
    with pytest.raises(TrainingError, match="head/value/bias holds NaN or infinity; train the critic again"):
        load_critic(saved, head(), SETTINGS)


@pytest.mark.parametrize(
    ("name", "content"),
    [("critic.json", "{"), ("critic.json", None), ("critic.safetensors", "x"), ("critic.safetensors", None)],
)
def test_what_is_missing_or_damaged_is_named(saved, name, content):
    (saved / name).unlink() if content is None else (saved / name).write_text(content)
    with pytest.raises(TrainingError, match=r"cannot be read .* expected critic\.safetensors and critic\.json"):
        load_critic(saved, head(), SETTINGS)


def test_a_place_without_a_critic_is_named(tmp_path):
    with pytest.raises(TrainingError, match="nowhere cannot be read"):
        load_critic(tmp_path / "nowhere", head(), SETTINGS)
