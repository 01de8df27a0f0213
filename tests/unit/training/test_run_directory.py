"""One trainer at a time, one config for good."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from wmtp_jax.errors import FileError
from wmtp_jax.training import run_directory
from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.run_directory import check_inputs, open_run_directory

CONFIG = {"model": {"dim": 64, "extra": {}}, "data": {"buckets": [64, 96]}, "train": {"log_every": 10}, "run_name": "a"}


def start(root, config, name="a", begun=False):
    """A trainer that starts and ends; `begun` leaves something in its directory."""
    with open_run_directory(root, name, config) as path:
        if begun:
            (path / "metrics.jsonl").touch()
    return path


def test_records_config_and_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    path = start(tmp_path, CONFIG)
    assert path == tmp_path / "a"
    assert json.loads((path / "config.json").read_text()) == CONFIG
    (begin,) = json.loads((path / "environment.json").read_text())["starts"]
    assert begin["packages"]["jax"]
    assert begin["devices"]
    assert begin["command"] == sys.orig_argv
    assert "hunter2" not in (path / "environment.json").read_text()
    assert sorted(entry.name for entry in path.iterdir()) == ["config.json", "environment.json", "lock"]


def test_second_trainer_is_refused_until_the_first_has_ended(tmp_path):
    in_use = pytest.raises(FileError, match=rf"in use by process {os.getpid()} on .*--run_name")
    with open_run_directory(tmp_path, "a", CONFIG):
        with in_use:
            start(tmp_path, CONFIG)
        start(tmp_path, CONFIG, name="b")
    again = start(tmp_path, CONFIG)
    assert len(json.loads((again / "environment.json").read_text())["starts"]) == 2


def test_killed_trainer_frees_the_directory(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from wmtp_jax.training.run_directory import check_inputs, open_run_directory
        with open_run_directory(sys.argv[1], "a", {"x": 1}):
            print("locked", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(FileError, match=f"in use by process {process.pid} "):
        start(tmp_path, {"x": 1})
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    start(tmp_path, {"x": 1})


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
    start(tmp_path, CONFIG, begun=True)
    before = (tmp_path / "a" / "config.json").read_text()
    with pytest.raises(TrainingError, match=sentence):
        start(tmp_path, CONFIG | change)
    assert (tmp_path / "a" / "config.json").read_text() == before
    start(tmp_path, CONFIG)  # a refusal keeps no lock


def test_run_that_did_nothing_yet_may_get_another_config(tmp_path):
    """A mistyped path must not cost the run's name."""
    start(tmp_path, CONFIG | {"seed": 1})
    start(tmp_path, CONFIG)
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == CONFIG


def inputs(**digests):
    return {field: {"path": f"{field}.bin", "sha256": digest} for field, digest in digests.items()}


def test_other_inputs_are_refused_by_name_once_the_run_has_begun(tmp_path):
    with open_run_directory(tmp_path, "a", CONFIG) as path:
        check_inputs(path, inputs(model="0a", reference="0b"))
        check_inputs(path, inputs(model="1a", reference="0b"))  # nothing is lost yet
        (path / "before.json").touch()
        check_inputs(path, inputs(model="1a", reference="0b"))
        other = r"began with another config\.reference: the content of reference\.bin has changed .*--run_name"
        with pytest.raises(TrainingError, match=other):
            check_inputs(path, inputs(model="1a", reference="1b"))
        check_inputs(path, inputs(model="1a", reference="0b"))  # a refusal does not take the other one for good
    start(tmp_path, CONFIG)


def test_tuples_and_free_fields_do_not_count_as_another_config(tmp_path):
    start(tmp_path, CONFIG, begun=True)
    free = CONFIG | {"train": {"log_every": 1}, "data": {"buckets": (64, 96)}}
    start(tmp_path, free)
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


def test_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(TrainingError, match=r"holds thesis.tex but no config.json"):
        start(tmp_path, CONFIG)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(FileError, match=r"runs/a: .*check the path and its permissions"):
        start(tmp_path / "runs", CONFIG)


def test_broken_config_file(tmp_path):
    start(tmp_path, CONFIG, begun=True)
    (tmp_path / "a" / "config.json").write_text('{"model":')
    with pytest.raises(TrainingError, match=r"config.json: not valid JSON.* or give another --run_name"):
        start(tmp_path, CONFIG)
