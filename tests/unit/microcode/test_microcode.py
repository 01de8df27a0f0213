"""The embedded tasks: what was shipped keeps what the generator promises."""

import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import sentencepiece

from wmtp_jax.microcode import FAMILIES, verify

SPLITS = ("pretrain", "train", "valid", "test")
MAX_TOKENS = 128


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, list[dict]]:
    directory = root / "storage/datasets_v2/microcode"
    return {
        split: [json.loads(line) for line in gzip.open(directory / f"{split}.jsonl.gz", "rt", encoding="utf-8")]
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> sentencepiece.SentencePieceProcessor:
    model = root / "storage/models_v2/micro-mtp/tokenizer.model"
    return sentencepiece.SentencePieceProcessor(model_file=str(model))


@pytest.mark.slow
def test_the_generator_reproduces_the_shipped_bytes(root: Path):
    verify(root / "storage/datasets_v2/microcode")


def test_families_cover_the_topics():
    topics = {"arithmetic", "conditions", "lists", "strings", "dictionaries", "loops", "algorithms"}
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) >= 30
    assert {family.topic for family in FAMILIES} == topics
    assert all(len(family.templates) >= 2 for family in FAMILIES)


def test_sizes_labels_and_the_same_mix_of_families_in_every_split(records):
    assert all(r["is_correct"] is None for r in records["pretrain"])
    assert 0.27 <= np.mean([not r["metadata"]["clean"] for r in records["pretrain"]]) <= 0.33
    for split, least in (("pretrain", 3000), ("train", 1000), ("valid", 100), ("test", 200)):
        families = {r["instruction"]: r["metadata"]["family"] for r in records[split]}
        assert len(families) >= least
        counts = Counter(families.values())
        assert set(counts) == {family.name for family in FAMILIES}
        assert len(set(counts.values())) == 1
    for split in SPLITS[1:]:
        labels = defaultdict(list)
        for r in records[split]:
            assert r["is_correct"] is r["metadata"]["clean"]
            labels[r["instruction"]].append(r["is_correct"])
        assert all(sorted(of_problem) == [False, False, True, True] for of_problem in labels.values())


def test_records_follow_the_schema(records):
    for split in SPLITS:
        for r in records[split]:
            assert list(r) == ["instruction", "input", "output", "task_id", "is_correct", "metadata"]
            assert re.fullmatch(rf"microcode/{split}/\d{{5}}_(correct|incorrect|solution)_\d", r["task_id"])
            assert r["input"] == ""
            assert r["instruction"].startswith(f"def {r['metadata']['entry_point']}(")
            assert r["instruction"].endswith('    """\n')
            assert re.fullmatch(r"(    .*\n)+", r["output"])
            assert not re.search(r"[ \t]\n", r["output"])
        assert len({r["task_id"] for r in records[split]}) == len(records[split])


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
    for r in (r for split in SPLITS for r in records[split]):
        tests, entry_point = r["metadata"]["tests"], re.escape(r["metadata"]["entry_point"])
        assert len(set(tests)) == len(tests) >= 10
        assert any(re.match(rf"assert {entry_point}\((0|1|\[\]|''|{{}})[,)]", test) for test in tests), tests
        example = re.search(r"    >>> (.*)\n    (.*)\n", r["instruction"])
        assert f"assert {example[1]} == {example[2]}" in tests


def passes(record: dict) -> bool:
    try:
        exec("\n".join([record["instruction"] + record["output"], *record["metadata"]["tests"]]), {})
    except Exception:
        return False
    return True


@pytest.mark.parametrize("split", SPLITS)
def test_labels_hold_when_the_programs_run(records, split):
    assert [passes(r) for r in records[split]] == [r["metadata"]["clean"] for r in records[split]]


def test_lengths_in_tokens(records, tokenizer):
    texts = [r["instruction"] for split in SPLITS for r in records[split]]
    outputs = [r["output"] for split in SPLITS for r in records[split]]
    pairs = zip(tokenizer.encode(texts), tokenizer.encode(outputs), strict=True)
    lengths = [len(prompt) + len(answer) + 2 for prompt, answer in pairs]  # BOS and EOS
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
    """Probability that a correct program scores above an incorrect one; ties count half."""
    correct, incorrect = scores[labels][:, None], scores[~labels][None]
    return float(np.mean((correct > incorrect) + 0.5 * (correct == incorrect)))


@pytest.mark.parametrize("with_prompt", [False, True])
def test_a_bag_of_tokens_does_not_tell_correct_from_incorrect(records, tokenizer, with_prompt):
    train, held_out = records["train"], records["valid"] + records["test"]
    x, y = features(train, tokenizer, with_prompt), np.array([r["is_correct"] for r in train])
    x_new, y_new = features(held_out, tokenizer, with_prompt), np.array([r["is_correct"] for r in held_out])
    assert auc(fitted_scores(x, y, x_new), y_new) <= 0.6
    # The same classifier finds a trace that is there: a token that half of the incorrect programs have more often.
    rng = np.random.default_rng(0)
    x[:, 300] += ~y & (rng.random(len(y)) < 0.5)
    x_new[:, 300] += ~y_new & (rng.random(len(y_new)) < 0.5)
    assert auc(fitted_scores(x, y, x_new), y_new) > 0.65
