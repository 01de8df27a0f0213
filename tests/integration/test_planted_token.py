"""Where one token decides, the critic finds it: the value jumps there, and weights and errors point to it."""

import numpy as np
import pytest

from benchmarks.planted_token import by_distance, evaluate, planted_examples, plot, summary, train_critic

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    """A critic's view of 80 solutions of problems that it has not seen."""
    return evaluate(*train_critic(planted_examples(400, seed=1), steps=150), planted_examples(40, seed=2))


def test_the_value_jumps_at_the_deciding_token_and_only_there(found):
    numbers = summary(found)
    assert numbers["auc"] == 1
    assert 0.4 < numbers["value_before"] < 0.6
    assert numbers["smallest_jump_correct"] > 0.3
    assert numbers["smallest_fall_incorrect"] > 0.3
    elsewhere = found["mask"] & ~found["decides"]
    assert np.abs(found["errors"][elsewhere]).max() < 0.1


def test_on_every_correct_solution_the_deciding_token_has_the_largest_weight(found):
    assert summary(found)["heaviest_is_the_deciding_token"] == 1
    after = [line["weight"] for line in by_distance(found) if line["offset"] > 0]
    at = next(line["weight"] for line in by_distance(found) if line["offset"] == 0)
    assert at > 1.5
    assert max(after) < 0.5
    assert not np.any(found["weights"][~found["is_correct"]])


def test_on_every_incorrect_solution_its_error_is_the_lowest(found):
    assert summary(found)["lowest_error_is_the_deciding_token"] == 1


def test_a_solution_is_drawn(found, tmp_path):
    plot(found, int(found["is_correct"].argmax()), tmp_path / "solution.png", "a correct solution")
    assert (tmp_path / "solution.png").read_bytes().startswith(b"\x89PNG")
