"""Row files survive being cut off anywhere, and belong to one job."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmtp_jax.evaluation import EvaluationError
from wmtp_jax.evaluation.rows import RowFile, read_rows

SETTINGS = {"benchmark": "microcode", "seed": 0}
ROWS = [{"task_id": f"t{i}", "sample": i % 2, "text": "é\n" * i} for i in range(5)]


def fill(path):
    with RowFile(path, SETTINGS) as file:
        for row in ROWS:
            if (row["task_id"], row["sample"]) not in file.rows:
                file.append(row)
    return path.read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_a_file_cut_anywhere_is_completed_to_the_same_bytes(share, tmp_path):
    path = tmp_path / "rows.jsonl"
    whole = fill(path)
    path.write_bytes(whole[: int(share * len(whole))])
    assert fill(path) == whole
    assert read_rows(path) == (SETTINGS, ROWS)
    path.unlink()


def test_another_job_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    before = fill(path)
    with pytest.raises(EvaluationError, match="made with seed 0, now it is 1; set it back"):
        RowFile(path, SETTINGS | {"seed": 1})
    assert path.read_bytes() == before


def test_settings_without_a_row_bind_nobody(tmp_path):
    path = tmp_path / "rows.jsonl"
    RowFile(path, SETTINGS | {"top_p": 0}).__exit__()
    fill(path)
    assert read_rows(path) == (SETTINGS, ROWS)


def test_a_second_process_is_refused(tmp_path):
    with RowFile(tmp_path / "rows.jsonl", SETTINGS), pytest.raises(EvaluationError, match="in use"):
        RowFile(tmp_path / "rows.jsonl", SETTINGS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no\n", "not a JSON line"),
        (b"[]\n", "first line"),
        (b'{"settings": {}}\n{"settings": {}}\n', "first line"),
    ],
)
def test_other_files_are_refused(content, said, tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(EvaluationError, match="no such file"):
        read_rows(path)
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=said):
        read_rows(path)
