"""One trainer at a time, one config for good."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from wmtp_jax.training import run_directory
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.run_directory import RunDirectory, write_text_atomically

CONFIG = {"model": {"dim": 64, "extra": {}}, "data": {"buckets": [64, 96]}, "train": {"log_every": 10}, "run_name": "a"}


def test_records_config_and_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    run = RunDirectory.create(tmp_path, "a", CONFIG)
    assert (run.path, run.resumed) == (tmp_path / "a", False)
    assert json.loads((run.path / "config.json").read_text()) == CONFIG
    (start,) = json.loads((run.path / "environment.json").read_text())["starts"]
    assert start["packages"]["jax"]
    assert start["devices"]
    assert start["command"] == sys.orig_argv
    assert "hunter2" not in (run.path / "environment.json").read_text()
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "environment.json", "lock"]


def test_second_trainer_is_refused_until_the_first_lets_go(tmp_path):
    with RunDirectory.create(tmp_path, "a", CONFIG):
        with pytest.raises(TrainingError, match=rf"in use by process {os.getpid()} on .* since .*--run_name"):
            RunDirectory.create(tmp_path, "a", CONFIG)
        RunDirectory.create(tmp_path, "b", CONFIG).release()
    (tmp_path / "a" / "metrics.jsonl").touch()
    again = RunDirectory.create(tmp_path, "a", CONFIG)
    assert again.resumed
    assert len(json.loads((again.path / "environment.json").read_text())["starts"]) == 2


def test_killed_trainer_frees_the_directory(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from wmtp_jax.training.run_directory import RunDirectory
        run = RunDirectory.create(sys.argv[1], "a", {"x": 1})
        print("locked", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(TrainingError, match=f"in use by process {process.pid} "):
        RunDirectory.create(tmp_path, "a", {"x": 1})
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    RunDirectory.create(tmp_path, "a", {"x": 1})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"dim": 65, "extra": {}}}, "model.dim is 64 there and 65 here"),
        ({"data": {"buckets": [64, 128]}}, r"data.buckets is \[64, 96\] there and \[64, 128\] here"),
        ({"seed": 1}, "seed is absent there and 1 here"),
        ({"model": {"dim": 64}}, "model.extra is {} there and absent here"),
    ],
)
def test_other_config_is_refused(tmp_path, change, sentence):
    RunDirectory.create(tmp_path, "a", CONFIG).release()
    (tmp_path / "a" / "metrics.jsonl").touch()
    before = (tmp_path / "a" / "config.json").read_text()
    with pytest.raises(TrainingError, match=sentence):
        RunDirectory.create(tmp_path, "a", CONFIG | change)
    assert (tmp_path / "a" / "config.json").read_text() == before
    RunDirectory.create(tmp_path, "a", CONFIG)  # a refusal keeps no lock


def test_run_that_did_nothing_yet_may_get_another_config(tmp_path):
    """A mistyped path must not cost the run's name."""
    RunDirectory.create(tmp_path, "a", CONFIG | {"seed": 1}).release()
    assert not RunDirectory.create(tmp_path, "a", CONFIG).resumed
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == CONFIG


def test_tuples_and_free_fields_do_not_count_as_another_config(tmp_path):
    RunDirectory.create(tmp_path, "a", CONFIG).release()
    (tmp_path / "a" / "metrics.jsonl").touch()
    free = CONFIG | {"train": {"log_every": 1}, "data": {"buckets": (64, 96)}}
    assert RunDirectory.create(tmp_path, "a", free).resumed
    assert json.loads((tmp_path / "a" / "config.json").read_text())["train"]["log_every"] == 1


def test_free_fields_exist():
    """A field that is renamed in the configs must be renamed here."""
    from configs import defaults

    config = defaults.get_config()
    for name in run_directory.FREE_FIELDS:
        part = config
        for key in name.split("."):
            assert key in part, name
            part = part[key]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a"])
def test_run_name_must_be_a_plain_name(tmp_path, name):
    with pytest.raises(TrainingError, match="plain directory name"):
        RunDirectory.create(tmp_path / "runs", name, CONFIG)
    assert not (tmp_path / "runs").exists()


def test_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(TrainingError, match=r"holds thesis.tex but no config.json"):
        RunDirectory.create(tmp_path, "a", CONFIG)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(TrainingError, match="cannot be used"):
        RunDirectory.create(tmp_path / "runs", "a", CONFIG)


def test_broken_config_file(tmp_path):
    RunDirectory.create(tmp_path, "a", CONFIG).release()
    (tmp_path / "a" / "metrics.jsonl").touch()
    (tmp_path / "a" / "config.json").write_text('{"model":')
    with pytest.raises(TrainingError, match=r"config.json is not readable JSON"):
        RunDirectory.create(tmp_path, "a", CONFIG)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_text_atomically(path, "old")

    def disk_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomically(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == "old"
