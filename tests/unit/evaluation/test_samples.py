"""Sample files survive being cut off anywhere and belong to one job; what was edited in them is refused."""

import json
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmtp_jax.errors import FileError, UserError
from wmtp_jax.evaluation import EvaluationError, Problem
from wmtp_jax.evaluation.problems import problems_digest
from wmtp_jax.evaluation.samples import Answer, RowFile, draft_measures, read_rows, read_samples

SETTINGS = {"benchmark": "microcode", "seed": 0}
ROWS = [{"task_id": f"t{i}", "sample": i % 2, "text": "é\n" * i} for i in range(5)]
PROBLEMS = [Problem(name, "def f():\n", "x", tests="f()\n") for name in ("a", "b")]
SAMPLED = {
    "benchmark": "microcode",
    "problems": problems_digest(PROBLEMS),
    "model": "micro",
    "n_samples": 2,
    "temperature": 0.5,
}
SAMPLES = [{"task_id": name, "sample": n, "text": ""} for name in "ab" for n in range(2)]


def fill(path, rows=ROWS, settings=SETTINGS):
    with RowFile(path, settings) as file:
        for row in rows:
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


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_what_no_longer_fits_on_the_disk_is_one_sentence_and_the_job_continues(room, tmp_path):
    """The file may grow by `room` bytes, so the last write is cut short."""
    path = tmp_path / "rows.jsonl"
    whole = fill(path)
    path.write_bytes(whole[: whole.index(b"\n") + 1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
    try:
        with pytest.raises(FileError, match=r"rows.jsonl: File too large; "):
            fill(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fill(path) == whole


def test_another_job_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    before = fill(path)
    with pytest.raises(EvaluationError, match="made with seed 0, now it is 1; set it back"):
        RowFile(path, SETTINGS | {"seed": 1})
    assert path.read_bytes() == before


def test_settings_without_a_row_bind_nobody(tmp_path):
    path = tmp_path / "rows.jsonl"
    fill(path, rows=[], settings=SETTINGS | {"top_p": 0})
    fill(path)
    assert read_rows(path) == (SETTINGS, ROWS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"no\n", "not valid JSON"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (b"{}\n", "in the first line"),
        (b'{"settings": 3}\n', r'rows.jsonl:1: expected {"settings": ..} in the first line'),
        (b'{"settings": {}}\n{"settings": {}}\n', "rows.jsonl:2: expected a row with a task_id"),
        (b'{"settings": {}}\n{"task_id": ["t"], "sample": 0}\n', "rows.jsonl:2: expected a row with a task_id"),
        (b'{"settings": {}}\n{"task_id": "t", "sample": "0"}\n', "number of the sample"),
    ],
)
def test_other_files_are_refused(content, said, tmp_path):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_rows(path)


def test_samples_in_the_order_of_the_problems(tmp_path):
    path = tmp_path / "samples.jsonl"
    fill(path, reversed(SAMPLES), SAMPLED)
    assert read_samples(path, "microcode", PROBLEMS) == (SAMPLED, SAMPLES)


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        ({"n_samples": None}, SAMPLES, "n_samples is None; expected a number of samples"),
        ({"n_samples": "2"}, SAMPLES, "n_samples is '2'; expected a number of samples"),
        ({"n_samples": True}, SAMPLES, "n_samples is True; expected a number of samples"),
        ({"n_samples": 10**9}, SAMPLES, "lacks 1999999996 of 2000000000 samples"),
        ({"n_samples": 0}, [], "n_samples is 0; expected 1 or more"),
        ({"temperature": "warm"}, SAMPLES, "temperature is 'warm'; expected a number"),
        ({"benchmark": "mbpp"}, SAMPLES, "holds samples of 'mbpp', not of 'microcode'"),
        ({"problems": "0" * 64}, SAMPLES, "answers other problems than these"),
        ({}, SAMPLES[:-1], "lacks 1 of 4 samples"),
        ({}, [*SAMPLES, SAMPLES[0]], "holds a sample more than once"),
        ({}, [*SAMPLES[1:], SAMPLES[0] | {"task_id": "c"}], "holds sample 0 of 'c'; expected 2 samples of each"),
        ({}, [*SAMPLES, SAMPLES[0] | {"sample": -1}], "holds sample -1 of 'a'"),
    ],
)
def test_edited_samples_are_one_sentence(settings, rows, said, tmp_path):
    path = tmp_path / "samples.jsonl"
    lines = [{"settings": SAMPLED | settings}, *rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(EvaluationError, match=said) as caught:
        read_samples(path, "microcode", PROBLEMS)
    assert "\n" not in str(caught.value)
    del lines[0]["settings"]["model"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(EvaluationError, match=r"samples.jsonl:1: the settings lack 'model'"):
        read_samples(path, "microcode", PROBLEMS)


def test_without_drafts_nothing_is_said_of_them():
    answers = [Answer("", "eos", tokens=4, forward_passes=4, accepted=[])] * 2
    assert draft_measures(answers) == {"tokens_per_forward": 1.0, "acceptance": []}
    with pytest.raises(EvaluationError, match="different numbers of heads"):
        draft_measures([*answers, Answer("", "eos", tokens=4, forward_passes=4, accepted=[1])])


ROW = {
    "task_id": "t",
    "sample": 3,
    "text": "x",
    "stop_reason": "eos",
    "tokens": 4,
    "forward_passes": 3,
    "accepted": [1],
}


@pytest.mark.parametrize(
    "change",
    [{"text": None}, {"tokens": "4"}, {"tokens": -1}, {"forward_passes": 0}, {"accepted": 1}, {"accepted": [True]}],
)
def test_damaged_answers_are_named(change):
    assert Answer.from_row(ROW) == Answer("x", "eos", 4, 3, [1])
    with pytest.raises(EvaluationError, match="sample 3 of 't' is damaged"):
        Answer.from_row(ROW | change)
