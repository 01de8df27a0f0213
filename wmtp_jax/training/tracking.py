"""A mirror of the run in MLflow, kept by a background thread. The only module that imports mlflow, and only there.

Nothing here stops or slows a run: the first failure is told in one line, then the mirror stays silent.
"""

import contextlib
import logging as standard_logging
import os
import queue
import re
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from wmtp_jax.cli import Terminated
from wmtp_jax.files import FileLock
from wmtp_jax.jsonl import fields_of

_EXPERIMENT = "wmtp-jax"
_FLUSH_SECONDS = 2.0
_BATCH = 500  # MLflow takes up to 1000 metrics and 100 params in a call
_RUN_ID_FILE = "mlflow_run_id.txt"


class Tracker(contextlib.AbstractContextManager):
    """Mirrors params and metrics of one run to MLflow: sqlite under the runs' root, or MLFLOW_TRACKING_URI when set. A
    context manager, whose end decides the status: FINISHED, KILLED when a signal stopped the run, else FAILED.

    The MLflow run is the same one after a restart; steps it already has are not logged twice.

    Args:
        root: directory of all runs; the store is `mlflow.db` in it.
        run_directory: of this run; remembers MLflow's id of it.
        run_name: shown in MLflow.
        params: the resolved config, nested; logged as `a.b`.
    """

    def __init__(self, root: Path, run_directory: Path, run_name: str, params: Mapping[str, Any]):
        texts = {name: str(value)[:500] for name, value in fields_of(params)}
        self._connect = lambda: _Mirror(root.resolve(), run_directory, run_name, texts)
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def __exit__(self, kind, *_) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt | Terminated)
        self.close("FINISHED" if kind is None else "KILLED" if stopped else "FAILED")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands over the metrics of a step; returns at once."""
        if not self._broken:
            now = int(time.time() * 1000)
            self._queue.put([(name, float(value), now, int(step)) for name, value in values.items()])

    def log_file(self, path: Path) -> None:
        """Hands over a small file (config, plot, report) to be kept with the run."""
        if not self._broken:
            self._queue.put(path)

    def close(self, status: str = "FINISHED", timeout_s: float = 30.0) -> None:
        """Ends the MLflow run as FINISHED, FAILED or KILLED; what is not written after `timeout_s` is given up."""
        self._queue.put(status)
        self._thread.join(timeout_s)
        if self._thread.is_alive() and not self._broken:
            self._broken = True
            logging.warning("MLflow did not answer within %.0f s: its copy of the run is incomplete", timeout_s)

    def _work(self) -> None:
        try:
            mirror = self._connect()
            while not self._broken:
                items = [self._queue.get()]
                deadline = time.monotonic() + _FLUSH_SECONDS
                while not isinstance(items[-1], str) and (left := deadline - time.monotonic()) > 0:
                    try:
                        items.append(self._queue.get(timeout=left))
                    except queue.Empty:
                        break
                mirror.log_metrics([metric for item in items if isinstance(item, list) for metric in item])
                for item in items:
                    if isinstance(item, Path):
                        mirror.log_file(item)
                if isinstance(items[-1], str):
                    mirror.finish(items[-1])
                    return
        except ImportError as error:
            self._give_up(f"MLflow is not installed ({error}); the run goes on with metrics.jsonl alone")
        except Exception as error:  # whatever breaks in a tracking store must not break the run
            text = without_password((str(error).splitlines() or [type(error).__name__])[0])[:200]
            self._give_up(f"MLflow failed ({text}); the run goes on with metrics.jsonl alone")

    def _give_up(self, sentence: str) -> None:
        if not self._broken:
            self._broken = True
            logging.warning("%s", sentence)


class _Mirror:
    """The MLflow run itself; every method may raise."""

    def __init__(self, root: Path, run_directory: Path, run_name: str, params: dict[str, str]):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.entities
        import mlflow.tracking

        for name in ("mlflow", "alembic"):  # made tables and repeated attempts are no news for the person at a run
            standard_logging.getLogger(name).setLevel(standard_logging.ERROR)
        self._entities = mlflow.entities
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _sqlite_store(root)
        self._client = mlflow.tracking.MlflowClient(uri)
        self._id, known_params = self._open(root, run_directory / _RUN_ID_FILE, run_name)
        self._last_steps: dict[str, int] = {}
        new = [mlflow.entities.Param(key, value) for key, value in params.items() if key not in known_params]
        for first in range(0, len(new), 100):
            self._client.log_batch(self._id, params=new[first : first + 100])

    def _open(self, root: Path, id_file: Path, run_name: str) -> tuple[str, dict]:
        if id_file.exists():
            try:
                run = self._client.get_run(id_file.read_text(encoding="utf-8").strip())
                self._client.update_run(run.info.run_id, status="RUNNING")
                return run.info.run_id, run.data.params
            except Exception:  # the store was deleted or replaced: the run gets a new entry
                logging.info("the MLflow run of %s is gone; a new one is made", id_file.parent)
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else _make_experiment(self._client, root)
        run_id = self._client.create_run(experiment_id, run_name=run_name).info.run_id
        id_file.write_text(run_id + "\n", encoding="utf-8")
        return run_id, {}

    def log_metrics(self, metrics: list[tuple]) -> None:
        fresh = [metric for metric in metrics if metric[3] > self._last_step(metric[0])] + _system_metrics(metrics)
        for first in range(0, len(fresh), _BATCH):
            batch = [self._entities.Metric(*metric) for metric in fresh[first : first + _BATCH]]
            self._client.log_batch(self._id, metrics=batch)

    def _last_step(self, name: str) -> int:
        """The last step of this metric from before the restart; -1 for a new one."""
        if name not in self._last_steps:
            history = self._client.get_metric_history(self._id, name)
            self._last_steps[name] = max((metric.step for metric in history), default=-1)
        return self._last_steps[name]

    def log_file(self, path: Path) -> None:
        self._client.log_artifact(self._id, str(path))

    def finish(self, status: str) -> None:
        self._client.set_terminated(self._id, status)


def _sqlite_store(root: Path) -> str:
    """URI of the store under the runs' root.

    A new one is made under another name and by one process at a time: tables that two runs create at once, or that a
    killed run leaves half made, would break the mirror of every later run.
    """
    import mlflow.tracking

    path, new = root / "mlflow.db", root / ".mlflow-new.db"
    with FileLock(root / ".mlflow.lock", f"MLflow's store in {root}", "wait until it is made", wait=True):
        if not path.exists():
            for leftover in root.glob(new.name + "*"):
                leftover.unlink()
            _make_experiment(mlflow.tracking.MlflowClient(f"sqlite:///{new}"), root)
            os.replace(new, path)
    # MLflow would try a file that is no database for a minute; sqlite itself says so at once.
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
    return f"sqlite:///{path}"


def _make_experiment(client, root: Path) -> str:
    return client.create_experiment(_EXPERIMENT, artifact_location=(root / "mlflow_files").as_uri())


def _system_metrics(metrics: list[tuple]) -> list[tuple]:
    """CPU and memory use at the last of these metrics, under the names MLflow shows as system metrics."""
    if not metrics:
        return []
    import psutil

    _, _, now, step = metrics[-1]
    return [
        ("system/cpu_utilization_percentage", psutil.cpu_percent(), now, step),
        ("system/system_memory_usage_megabytes", psutil.virtual_memory().used / 1e6, now, step),
    ]


def without_password(text: str) -> str:
    """Cuts what MLFLOW_TRACKING_URI holds of a user and a password out of a text, then those of every other URL."""
    _, _, authority = os.environ.get("MLFLOW_TRACKING_URI", "").partition("://")
    user, _, password = authority.rpartition("@")[0].partition(":")
    for secret in (f"{user}:{password}@", password, urllib.parse.unquote(password)):
        if password:
            text = text.replace(secret, "***")
    return re.sub(r"(\w+://)[^/\s]*@", r"\1", text)
