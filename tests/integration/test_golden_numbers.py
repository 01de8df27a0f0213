"""A few steps of every objective and control, against numbers that were written down once.

They were taken at commit 3457515. `python tests/integration/test_golden_numbers.py` writes them again; do that only
where a change is meant to change them, and say why in the commit.
"""

import json
from pathlib import Path

import pytest
from tiny_runs import GOLDEN_RUNS, fixed_batches, golden_numbers, stage1_numbers, stage2_numbers

GOLDEN = Path(__file__).with_name("golden.json")


@pytest.fixture(scope="module")
def golden() -> dict[str, list[dict[str, float]]]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def batches() -> list[dict]:
    return fixed_batches()


@pytest.fixture(scope="module")
def stage1(batches):
    """Numbers of the critic's training, and the critic."""
    return stage1_numbers(batches)


def assert_golden(rows: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    """Every number that was written down is there and the same, up to the rounding of another machine."""
    for step, (row, wanted) in enumerate(zip(rows, expected, strict=True)):
        assert wanted.keys() <= row.keys(), f"step {step}"
        for name, number in wanted.items():
            scale = abs(number)
            if name.startswith("moved/") and name.endswith("/sum"):  # the sum of many small numbers of either sign
                scale = 100 * wanted[name.removesuffix("sum") + "norm"]
            assert row[name] == pytest.approx(number, rel=0, abs=2e-5 * scale + 1e-6), f"step {step}: {name}"


def test_stage_1(stage1, golden):
    assert_golden(stage1[0], golden["stage1"])


@pytest.mark.parametrize("run", GOLDEN_RUNS)
def test_steps(run, batches, stage1, golden):
    assert_golden(stage2_numbers(run, batches, stage1[1]), golden[run])


def test_no_two_objectives_or_controls_take_the_same_steps(golden):
    assert len({json.dumps(rows) for rows in golden.values()}) == len(golden)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_numbers(), indent=1) + "\n")
