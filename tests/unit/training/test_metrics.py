"""metrics.jsonl: every step once, whatever happened in between."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wmtp_jax.training.metrics import MetricsWriter, read_metrics


def write(path, steps, **options) -> None:
    with MetricsWriter(path, **options) as writer:
        for step in steps:
            writer.write(step, {"loss": step / 8})


def test_one_json_object_per_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write(1, {"loss": np.float32(0.5), "valid/loss": 2})
        assert path.read_text() == '{"step": 1, "loss": 0.5, "valid/loss": 2.0}\n'  # there before the end: flushed
        writer.write(2, {"a": float("nan"), "b": float("inf"), "c": -float("inf")})  # JSON has no number for them
    assert read_metrics(path)[1] == {"step": 2, "a": None, "b": None, "c": None}


def test_resume_removes_what_will_be_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 8))
    write(path, range(5, 10), next_step=5)
    assert [entry["step"] for entry in read_metrics(path)] == list(range(1, 10))
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_resume_after_a_line_was_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.125}\n{"step": 2, "lo\xff')
    assert [entry["step"] for entry in read_metrics(path)] == [1]
    write(path, [2], next_step=2)
    assert path.read_text() == '{"step": 1, "loss": 0.125}\n{"step": 2, "loss": 0.25}\n'


@given(killed_at=st.integers(0, 200), resumed_at=st.integers(0, 6))
def test_any_cut_and_any_resume_give_the_uninterrupted_file(tmp_path_factory, killed_at, resumed_at):
    lines = [json.dumps({"step": step, "loss": step / 8}) + "\n" for step in range(6)]
    whole = "".join(lines)
    killed_at = max(killed_at, len("".join(lines[:resumed_at])))  # what precedes the checkpoint was flushed before it
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    path.write_text(whole[:killed_at])
    write(path, range(resumed_at, 6), next_step=resumed_at)
    assert path.read_text() == whole
