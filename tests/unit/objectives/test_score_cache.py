"""Scores on disk come back bit for bit, for the same model and data, or not at all."""

import numpy as np
import pytest

from wmtp_jax.errors import FileError
from wmtp_jax.objectives.objective import ObjectiveError
from wmtp_jax.objectives.score_cache import cached_scores

KEY = {"the weights": "1f", "the data": "2e"}
SCORES = np.array([0.0, 1.5, -2.25, 1e-30], np.float32)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cache" / "reference-train.safetensors"
    cached_scores(path, KEY, lambda: SCORES)
    return path


def read(path, key=KEY):
    return cached_scores(path, key, lambda: pytest.fail("computed again"))


def test_round_trip(path, capsys):
    scores = read(path)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, SCORES)
    assert capsys.readouterr().out == f"reference scores: read from {path}\n"


def test_what_is_not_contiguous_is_written_whole(tmp_path):
    strided = np.arange(10, dtype=np.float32)[::3]
    np.testing.assert_array_equal(cached_scores(tmp_path / "a", KEY, lambda: strided), strided)
    np.testing.assert_array_equal(read(tmp_path / "a"), strided)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (KEY | {"the data": "2f"}, "holds stale scores: the data changed since; delete that file"),
        ({"the weights": "0", "the data": "0"}, "the data and the weights changed since"),
        (KEY | {"the dtype": "float32"}, "the dtype changed since"),
        ({"the data": "2e"}, "the weights changed since"),
    ],
)
def test_every_difference_of_the_key_is_named(path, key, said):
    with pytest.raises(ObjectiveError, match=said):
        read(path, key)


@pytest.mark.parametrize("bit", [1, 32, 128])
def test_any_flipped_bit_is_refused_or_harmless(path, bit):
    """Every byte of the file in turn: other scores never come back, whatever safetensors makes of the file."""
    sound = path.read_bytes()
    refused = []
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ bit]) + sound[place + 1 :])
        try:
            np.testing.assert_array_equal(read(path), SCORES)
        except ObjectiveError as error:
            refused.append(place)
            sentence = str(error)
            assert sentence.startswith(str(path))
            assert sentence.endswith("delete that file to have the scores computed anew")
    assert set(range(len(sound) - SCORES.nbytes, len(sound))) <= set(refused)
    assert all(place in refused for place in range(sound.index(b"1f"), sound.index(b"1f") + 2))


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", None], ids=["empty", "text", "truncated"])
def test_a_broken_file_is_refused(path, content):
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(ObjectiveError, match=r"is no file of cached scores, or a damaged one; delete that file"):
        read(path)


def test_nothing_is_left_of_a_write_that_was_killed(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        cached_scores(tmp_path / "scores.safetensors", KEY, lambda: SCORES)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(FileError, match="cache: File exists; check the path"):
        cached_scores(tmp_path / "cache" / "scores.safetensors", KEY, lambda: SCORES)
