"""The parts of the generator of embedded tasks: siblings, rearrangements, guarded execution, files, command line."""

import gzip
import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from wmtp_jax.errors import UserError
from wmtp_jax.microcode import FAMILIES, build, settings, shipping, to_jsonl
from wmtp_jax.microcode.__main__ import main
from wmtp_jax.microcode.execution import BoundedProgram
from wmtp_jax.microcode.mutation import rearrangements, siblings

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_all_styles_solve_the_problem_and_wrong_programs_exist(family):
    values = Random(3).choice(settings(family))
    problem = build(family, values, Random(5))  # raises when two styles disagree
    assert len(problem.correct) == len(family.styles)
    assert len(problem.incorrect) >= 2
    assert not set(problem.correct) & set(problem.incorrect)


def test_a_problem_depends_on_its_stream_alone():
    family = BY_NAME["clamp"]
    values = settings(family)[7]
    assert build(family, values, Random("x")) == build(family, values, Random("x"))
    assert build(family, values, Random("x")) != build(family, values, Random("y"))


def test_disagreeing_styles_are_refused():
    family = replace(BY_NAME["linear"], styles=("return {a} * {x} {sign.code} {b}", "return {a} * {x}"))
    with pytest.raises(ValueError, match="linear: style 1"):
        build(family, settings(family)[0], Random(0))


def test_siblings_change_one_parameter_or_exchange_two():
    family = BY_NAME["weighted_pair"]
    values = settings(family)[25]
    for other in islice(siblings(family, values, Random(0)), 200):
        changed = [name for name in values if other[name] != values[name]]
        assert len(changed) == 1 or sorted(other[n] for n in changed) == sorted(values[n] for n in changed)
        assert all(other[name] in family.parameters[name] for name in values)


def test_siblings_keep_the_law_of_the_parameters():
    family = BY_NAME["linear"]
    rng = Random(1)
    every = settings(family)
    mean = sum(values["b"] for values in every) / len(every)
    stepped = [next(siblings(family, rng.choice(every), rng))["b"] for _ in range(8000)]
    assert abs(sum(stepped) / len(stepped) - mean) < 0.25  # three standard errors, uniform on 1..15, are 0.15


def test_rearrangements_by_hand():
    body = "    total = 0\n    for v in nums:\n        total += v\n        n -= 1\n    return total - n\n"
    assert set(rearrangements(body)) == {
        body.replace("total - n", "n - total"),
        body.replace("        total += v\n        n -= 1\n", "        n -= 1\n        total += v\n"),
        body.replace("        n -= 1\n", "    n -= 1\n"),
        body.replace("    return", "        return"),
    }


def test_rearrangements_leave_calls_and_strings_alone():
    assert rearrangements("    return 'a' - n\n") == []
    assert rearrangements("    return f(3 - g(n))\n") == []


def test_an_endless_loop_is_stopped_and_remembered():
    program = BoundedProgram("def f(n):\n    while n > 0:\n        n += 1\n    return n\n", "f")
    assert program.returns((0,), 0)
    assert not program.endless
    assert not program.returns((1,), 0)
    assert program.endless


def test_arguments_are_left_as_they_are():
    program = BoundedProgram("def f(xs):\n    xs.append(1)\n    return xs\n", "f")
    xs = [0]
    assert program(xs) == [0, 1]
    assert xs == [0]


def small_data() -> dict[str, list[dict]]:
    return {
        "test": [
            {"instruction": "def f():\n", "output": f"    return {i}\n", "metadata": {"clean": i == 1}} for i in (1, 2)
        ]
    }


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "generate", small_data)
    shipping.write(tmp_path / "microcode", small_data())
    return tmp_path / "microcode"


def test_what_is_written_verifies_and_nothing_else_is_left(written):
    assert sorted(path.name for path in written.iterdir()) == ["SHA256SUMS", "metadata.json", "test.jsonl.gz"]
    assert gzip.decompress((written / "test.jsonl.gz").read_bytes()) == to_jsonl(small_data()["test"])
    assert main(["--verify", str(written)]) == 0


def sign(directory):
    """Makes SHA256SUMS fit the files again, so that only the comparison with the generator can notice."""
    names = [line.split("  ")[1] for line in (directory / "SHA256SUMS").read_text().splitlines()]
    digests = [hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names]
    (directory / "SHA256SUMS").write_text("".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True)))


def test_a_missing_file_is_named(written):
    (written / "test.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"test\.jsonl\.gz: is missing, but SHA256SUMS lists it"):
        shipping.verify(written)


def test_a_file_without_its_digest_is_named(written):
    path = written / "test.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test\.jsonl\.gz: differs from its digest in SHA256SUMS"):
        shipping.verify(written)
    sign(written)
    with pytest.raises(UserError, match="not a whole gzip file"):
        shipping.verify(written)


def test_the_first_line_that_differs_is_named(written):
    lines = to_jsonl(small_data()["test"]).splitlines(keepends=True)
    path = written / "test.jsonl.gz"
    for content, line in ((lines[0] + lines[1].replace(b"2", b"3"), 2), (lines[0], 2), (b"", 1)):
        path.write_bytes(gzip.compress(content))
        sign(written)
        with pytest.raises(UserError, match=f"from line {line} on"):
            shipping.verify(written)


def test_other_metadata_is_noticed(written):
    (written / "metadata.json").write_text("{}\n")
    sign(written)
    with pytest.raises(UserError, match=r"metadata\.json differs"):
        shipping.verify(written)


def test_a_digest_list_cannot_point_outside(written):
    (written / "SHA256SUMS").write_text(f"{hashlib.sha256(b'').hexdigest()}  ../empty\n")
    (written.parent / "empty").write_bytes(b"")
    with pytest.raises(UserError, match="expected files in the directory of the list"):
        shipping.verify(written)


def test_the_command_line_answers_a_mistake_with_a_sentence(tmp_path, capsys):
    assert main(["--verify", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/nowhere")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: File exists"):
        shipping.write(tmp_path / "file", small_data())


def test_the_generator_starts_without_jax():
    code = "import sys, wmtp_jax.microcode; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
