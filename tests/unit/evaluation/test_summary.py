"""The numbers of the closing table."""

import pytest

from wmtp_jax.evaluation import EvaluationError
from wmtp_jax.evaluation.summary import summarize, table


def rows(**passed):
    return [
        {"task_id": name, "passed": flag, "confirmed": flag and name != "u", "reason": "passed" if flag else "timeout"}
        for name, flags in passed.items()
        for flag in flags
    ]


def test_mean_over_problems_not_over_samples():
    found = summarize(rows(a=[True, False, False, False], b=[True, True, True, True]), ks=[1, 2])
    assert found["pass_at_k"]["1"]["value"] == pytest.approx((0.25 + 1) / 2)
    assert found["pass_at_k"]["2"]["value"] == pytest.approx((0.5 + 1) / 2)
    assert found["reasons"] == {"passed": 5, "timeout": 3}
    assert found["problems"] == [
        {"task_id": "a", "samples": 4, "passed": 1},
        {"task_id": "b", "samples": 4, "passed": 4},
    ]
    assert found["pass_at_k"]["1"]["low"] <= 0.625 <= found["pass_at_k"]["1"]["high"]


def test_fewer_samples_than_k_are_refused():
    with pytest.raises(EvaluationError, match="pass@2 is not defined for 1"):
        summarize(rows(a=[True]), ks=[2])
    with pytest.raises(EvaluationError, match="no sample"):
        summarize([], ks=[1])
    with pytest.raises(EvaluationError, match="the verdict on sample 3 of 'a' is damaged"):
        summarize([{"task_id": "a", "sample": 3, "passed": 1, "confirmed": True, "reason": "passed"}], ks=[1])


def test_passes_that_are_not_confirmed_are_counted_and_can_be_left_out():
    verdicts = [*rows(a=[True, False], u=[True, True]), {**rows(u=[False])[0], "reason": "forged"}]
    found, strict = summarize(verdicts, ks=[1]), summarize(verdicts, ks=[1], confirmed_only=True)
    assert (found["unconfirmed"], found["forged"], found["unconfirmed_problems"]) == (2, 1, ["u"])
    assert found["pass_at_k"]["1"]["value"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert strict["pass_at_k"]["1"]["value"] == pytest.approx(1 / 4)
    settings = {"model": "m", "n_samples": 1, "temperature": None}
    text = table({"benchmark": "b", "settings": settings, "confirmed_only": True, "base": found} | strict)
    for part in ("confirmed base pass@1", "confirmed pass@1", f"{'forged':<24}{1:>6}   20.0%", "unconfirmed: u"):
        assert part in text, text


def test_table_shows_what_was_measured():
    settings = {"model": "micro-mtp", "n_samples": 1, "temperature": 0.0}
    result = {"benchmark": "microcode", "settings": settings} | summarize(rows(a=[True], b=[False]), ks=[1])
    result |= {"tokens_per_forward": 2.5, "acceptance": [0.9, 0.8], "heads_solutions": 7}
    result["execution"] = {"sandbox": "bwrap", "timeout_s": 10.0, "memory_mb": 1024}
    result["heads"] = {f"{name}_head_1": 0.5 for name in ("loss", "perplexity", "top1", "top5")}
    text = table(result)
    title = "micro-mtp on microcode: 2 problems, greedy"
    shown = ("pass@1", "50.0%", "timeout", "2.50", "draft of head 3 kept", "head 1", "in a sandbox (bwrap")
    for part in (title, *shown):
        assert part in text
    settings |= {"n_samples": 10, "temperature": 0.8}
    unjudged = table({"benchmark": "microcode", "problems": [], "settings": settings, "acceptance": []})
    assert "10 samples each, temperature 0.8" in unjudged
    assert "pass@1" not in unjudged
