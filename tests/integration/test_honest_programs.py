"""Verdicts on honest programs equal plain execution."""

import ast
import json

import pytest
from honest_programs import HONEST
from plain_execution import plain_execution

from wmtp_jax.sandbox import Program, check_programs
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

LIMITS = {"timeout_s": 20.0, "memory_bytes": 1 << 30, "workers": 2}


@pytest.fixture(scope="module")
def plain():
    return plain_execution(HONEST)


def defined_in(program: str) -> tuple[str, ...]:
    """The names of functions and values that a program defines."""
    try:
        body = ast.parse(program).body
    except SyntaxError:
        return ()
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return (*functions, *(target.id for target in targets if isinstance(target, ast.Name)))


@pytest.fixture(scope="module")
def verdicts():
    """With all their names as entry points, so that as many as can be reach the second step's comparisons."""
    programs = [Program(program, tests, entry_points=defined_in(program)) for program, tests in HONEST.values()]
    found = check_programs(programs, **LIMITS)
    return dict(zip(HONEST, found, strict=True))


def test_corpus(plain):
    """A program passes exactly where nothing was changed in it."""
    wrong = {name for name, outcome in plain.items() if outcome != "passed"}
    assert len(HONEST) >= 300
    assert len(HONEST) / 4 < len(wrong) < len(HONEST) / 2
    assert {name for name in HONEST if " => " in name} <= wrong


def test_equal_to_plain_execution(plain, verdicts):
    differences = {
        name: (plain[name], verdict.reason, verdict.detail)
        for name, verdict in verdicts.items()
        if verdict.passed != (plain[name] == "passed")
    }
    assert differences == {}


def test_confirmed(verdicts, capsys):
    """A third of the passes, as these programs use what no other process can take part in more than others do."""
    passed = [verdict for verdict in verdicts.values() if verdict.passed]
    confirmed = sum(verdict.confirmed for verdict in passed)
    with capsys.disabled():
        print(f"\n{confirmed} of {len(passed)} passes of honest programs are confirmed")
    assert confirmed >= 80


def test_order_of_sets(shared_data):
    """MBPP/341 asks for the elements of a set in order; whether its own order is that depends on how it was made."""
    lines = (shared_data / "benchmarks" / "mbpp.jsonl").read_text("utf-8").splitlines()
    problem = next(row for row in map(json.loads, lines) if row["task_id"] == 341)
    answers = ("tuple(sorted(s))", "tuple(s)", "tuple({*s})", "tuple(s)[::-1]")
    tests = [*problem["test_list"], "\n".join(problem["test_list"])]
    pairs = {f"{a} {t}": (f"def set_to_tuple(s): return {a}", t) for a in answers for t in tests}
    verdicts = check_programs([Program(*pair) for pair in pairs.values()], **LIMITS)
    plain = plain_execution(pairs)
    assert [verdict.passed for verdict in verdicts] == [plain[name] == "passed" for name in pairs]
    assert all(verdict.confirmed for verdict in verdicts if verdict.passed)
