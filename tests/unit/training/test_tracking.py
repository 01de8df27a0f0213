"""The MLflow mirror: complete when it works, silent when it does not."""

import shutil
import subprocess
import sys
import textwrap
import time

import pytest
from absl import logging

from wmtp_jax.training.tracking import Tracker, without_password


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _run_directory(root, name="run"):
    (root / name).mkdir(exist_ok=True)
    return root / name


def _mlflow_run(root, name="run"):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return client, client.get_run((root / name / "mlflow_run_id.txt").read_text().strip())


@pytest.mark.slow
def test_params_metrics_and_files_arrive_and_a_restart_goes_on_in_the_same_run(tmp_path, warnings):
    pytest.importorskip("mlflow")
    path = _run_directory(tmp_path)
    (path / "report.html").write_text("<p>")
    config = {"model": {"dim": 64}, "buckets": (64, 96), "empty": ""} | {f"p{i}": i for i in range(150)}

    tracker = Tracker(tmp_path, path, "run", config)
    for step in range(1, 1201):  # more than one call takes
        tracker.log(step, {"loss": 1 / step, "valid/loss_head_1": step})
    tracker.close("KILLED", timeout_s=300)
    client, run = _mlflow_run(tmp_path)
    assert run.info.status == "KILLED"

    tracker = Tracker(tmp_path, path, "run", config)
    for step in range(1150, 1301):
        tracker.log(step, {"loss": 1 / step, "new": float("nan")})
    tracker.log_file(path / "report.html")
    tracker.close(timeout_s=300)
    run = client.get_run(run.info.run_id)
    assert warnings == []
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params == {"model.dim": "64", "buckets": "(64, 96)", "empty": ""} | {
        f"p{i}": str(i) for i in range(150)
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(step, 1 / step) for step in range(1, 1301)]
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "mlflow.db").mkdir(),
        lambda root: (root / "mlflow.db").write_text("not a database" * 100),
        lambda root: shutil.rmtree(root / "run"),
    ],
    ids=["cannot be made", "no database", "vanished"],
)
def test_store_that_fails_is_told_once(tmp_path, warnings, spoil):
    path = _run_directory(tmp_path)
    spoil(tmp_path)
    tracker = Tracker(tmp_path, path, "run", {"a": 1})
    for step in range(100):
        tracker.log(step, {"loss": 1.0})
    tracker.close(timeout_s=300)
    assert len(warnings) == 1
    assert "the run goes on with metrics.jsonl alone" in warnings[0]
    tracker.log(101, {"loss": 1.0})


def test_absent_mlflow_is_one_line(tmp_path, warnings, monkeypatch):
    for name in ("mlflow", "mlflow.entities", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, name, None)
    tracker = Tracker(tmp_path, _run_directory(tmp_path), "run", {})
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert len(warnings) == 1
    assert "MLflow is not installed" in warnings[0]


def test_store_that_hangs_holds_nobody_up(tmp_path, warnings, monkeypatch):
    monkeypatch.setattr("wmtp_jax.training.tracking.FileLock", lambda *_, **__: time.sleep(3600))
    tracker = Tracker(tmp_path, _run_directory(tmp_path), "run", {})
    began = time.monotonic()
    tracker.log(1, {"loss": 1.0})
    tracker.close(timeout_s=0.2)
    assert time.monotonic() - began < 2
    assert len(warnings) == 1
    assert "did not answer" in warnings[0]


@pytest.mark.parametrize("password", ["SECRETPW", "SEC%2FRET%40PW", "SEC[RET", "SEC@RETPW", "SEC:RET"])
def test_a_password_in_the_uri_is_never_printed(monkeypatch, password):
    """Whatever the store's error says: the whole URI, another form of it, or the decoded password."""
    uri = f"http://user:{password}@127.0.0.1:9/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    decoded = password.replace("%2F", "/").replace("%40", "@")
    for text in (
        uri,
        f"no route to {uri}?x=1 for {password}",
        f"denied: {decoded}",
        f"https://user:{password}@other/a",
    ):
        printed = without_password(text)
        assert "RET" not in printed
        assert "user:" not in printed
    assert without_password("http://127.0.0.1:9/a@b") == "http://127.0.0.1:9/a@b"


@pytest.mark.slow
def test_two_first_runs_at_once_and_no_noise(tmp_path):
    """Both find no store yet; neither spoils the other's, and neither prints a word but that it waits for the other."""
    pytest.importorskip("mlflow")
    program = textwrap.dedent(
        """
        import pathlib, sys
        from wmtp_jax.training.tracking import Tracker
        assert "mlflow" not in sys.modules
        root, name = pathlib.Path(sys.argv[1]), sys.argv[2]
        tracker = Tracker(root, root / name, name, {})
        tracker.log(1, {"loss": 1.0})
        tracker.close(timeout_s=120)
        """
    )
    for name in "ab":
        _run_directory(tmp_path, name)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in "ab"
    ]
    said = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert all(line.startswith("waiting: MLflow's store") for line in said), said
    for name in "ab":
        assert _mlflow_run(tmp_path, name)[1].data.metrics["loss"] == 1.0
