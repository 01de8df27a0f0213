"""The embedded tasks: what was shipped keeps what the generator promises."""

import gzip
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import sentencepiece

from wmtp_jax.microcode import FAMILIES, verify

SPLITS = ("pretrain", "train", "valid", "test")
MAX_TOKENS = 128

# Runs each program with its tests in a fresh interpreter and tells which pass.
CHECKER = """
import json, sys
verdicts = []
for line in sys.stdin:
    program = json.loads(line)
    try:
        exec(program, {})
        verdicts.append(True)
    except Exception:
        verdicts.append(False)
print(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def directory(root: Path) -> Path:
    return root / "storage" / "datasets_v2" / "microcode"


@pytest.fixture(scope="module")
def records(directory: Path) -> dict[str, list[dict]]:
    return {
        split: [json.loads(line) for line in gzip.open(directory / f"{split}.jsonl.gz", "rt", encoding="utf-8")]
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(
        model_file=str(root / "storage" / "models_v2" / "micro-mtp" / "tokenizer.model")
    )


def passing(records: list[dict]) -> list[bool]:
    programs = (r["instruction"] + r["output"] + "\n" + "\n".join(r["metadata"]["tests"]) for r in records)
    result = subprocess.run(
        [sys.executable, "-I", "-c", CHECKER],
        input="".join(json.dumps(program) + "\n" for program in programs),
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return json.loads(result.stdout)


@pytest.mark.slow
def test_the_generator_reproduces_the_shipped_bytes(directory: Path):
    verify(directory)


def test_families_cover_the_topics():
    topics = {"arithmetic", "conditions", "lists", "strings", "dictionaries", "loops", "algorithms"}
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) >= 30
    assert {family.topic for family in FAMILIES} == topics
    assert all(len(family.styles) >= 2 for family in FAMILIES)


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_the_same_family_mix(records, split):
    counts = Counter({r["instruction"]: r["metadata"]["family"] for r in records[split]}.values())
    assert set(counts) == {family.name for family in FAMILIES}
    assert len(set(counts.values())) == 1


def test_sizes_and_labels(records):
    problems = {split: len({r["instruction"] for r in records[split]}) for split in SPLITS}
    assert problems["pretrain"] >= 3000
    assert problems["train"] >= 1000
    assert problems["valid"] >= 100
    assert problems["test"] >= 200
    assert all(r["is_correct"] is None for r in records["pretrain"])
    assert 0.27 <= np.mean([not r["metadata"]["clean"] for r in records["pretrain"]]) <= 0.33
    for split in SPLITS[1:]:
        labels = defaultdict(list)
        for r in records[split]:
            assert r["is_correct"] is r["metadata"]["clean"]
            labels[r["instruction"]].append(r["is_correct"])
        assert all(sorted(of_problem) == [False, False, True, True] for of_problem in labels.values())


def test_records_follow_the_schema(records):
    seen = set()
    for split in SPLITS:
        for r in records[split]:
            assert list(r) == ["instruction", "input", "output", "task_id", "is_correct", "metadata"]
            assert re.fullmatch(rf"microcode/{split}/\d{{5}}_(correct|incorrect|solution)_\d", r["task_id"])
            assert r["task_id"] not in seen
            seen.add(r["task_id"])
            assert r["input"] == ""
            assert r["instruction"].startswith(f"def {r['metadata']['entry_point']}(")
            assert r["instruction"].endswith('    """\n')
            assert re.fullmatch(r"(    .*\n)+", r["output"])
            assert not re.search(r"[ \t]\n", r["output"])


def canonical_problem(record: dict) -> tuple[str, str]:
    """Family and sentence with the arguments' names taken out: equal for problems that differ in names only."""
    head, sentence = record["instruction"].splitlines()[:2]
    for position, name in enumerate(re.search(r"\((.*)\)", head)[1].split(", ")):
        sentence = re.sub(rf"\b{name}\b", f"<{position}>", sentence)
    return record["metadata"]["family"], sentence


def test_no_problem_stands_in_two_splits_even_renamed(records):
    home = {}
    for split in SPLITS:
        for r in records[split]:
            assert home.setdefault(canonical_problem(r), (split, r["instruction"])) == (split, r["instruction"])


def test_every_problem_has_ten_different_tests_with_edges_and_a_true_example(records):
    for r in records["train"] + records["valid"] + records["test"] + records["pretrain"]:
        tests, entry_point = r["metadata"]["tests"], re.escape(r["metadata"]["entry_point"])
        assert len(set(tests)) == len(tests) >= 10
        assert any(re.match(rf"assert {entry_point}\((0|1|\[\]|''|{{}})[,)]", test) for test in tests), tests
        example = re.search(r"    >>> (.*)\n    (.*)\n", r["instruction"])
        assert f"assert {example[1]} == {example[2]}" in tests


def test_labels_hold_when_the_programs_run(records):
    held_out = records["valid"] + records["test"]
    assert passing(held_out) == [r["is_correct"] for r in held_out]


@pytest.mark.slow
def test_all_other_labels_hold_when_the_programs_run(records):
    rest = records["pretrain"] + records["train"]
    assert passing(rest) == [r["metadata"]["clean"] for r in rest]


def test_lengths_in_tokens(records, tokenizer):
    lengths = [
        len(tokenizer.encode(r["instruction"])) + len(tokenizer.encode(r["output"])) + 2  # BOS and EOS
        for split in SPLITS
        for r in records[split]
    ]
    assert max(lengths) <= MAX_TOKENS
    assert 50 <= median(lengths) <= 90


def features(records: list[dict], tokenizer, with_prompt: bool) -> np.ndarray:
    """Counts of pieces and length in pieces and characters, one row per record."""
    rows = []
    for r in records:
        text = r["instruction"] * with_prompt + r["output"]
        ids = tokenizer.encode(text)
        rows.append([*np.bincount(ids, minlength=tokenizer.vocab_size()), len(ids), len(text), len(r["output"])])
    return np.array(rows, np.float64)


def fitted_scores(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Logits of a ridge-penalised logistic regression, fitted by Newton's method."""
    used = x_train.std(0) > 0
    mean, scale = x_train[:, used].mean(0), x_train[:, used].std(0)
    a, b = (x_train[:, used] - mean) / scale, (x_test[:, used] - mean) / scale
    weight = np.zeros(a.shape[1])
    for _ in range(5):
        p = 1 / (1 + np.exp(-a @ weight))
        gradient = a.T @ (p - y_train) + 10 * weight
        hessian = (a.T * (p * (1 - p))) @ a + 10 * np.eye(len(weight))
        weight -= np.linalg.solve(hessian, gradient)
    return b @ weight


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a right program scores above a wrong one; ties count half."""
    right, wrong = scores[labels][:, None], scores[~labels][None]
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))


@pytest.mark.parametrize("with_prompt", [False, True])
def test_a_bag_of_tokens_does_not_tell_right_from_wrong(records, tokenizer, with_prompt):
    train, held_out = records["train"], records["valid"] + records["test"]
    x, y = features(train, tokenizer, with_prompt), np.array([r["is_correct"] for r in train])
    x_new, y_new = features(held_out, tokenizer, with_prompt), np.array([r["is_correct"] for r in held_out])
    assert auc(fitted_scores(x, y, x_new), y_new) <= 0.6
    # The same classifier finds a trace that is there: a token that half of the wrong programs have more often.
    rng = np.random.default_rng(0)
    x[:, 300] += ~y & (rng.random(len(y)) < 0.5)
    x_new[:, 300] += ~y_new & (rng.random(len(y_new)) < 0.5)
    assert auc(fitted_scores(x, y, x_new), y_new) > 0.65
