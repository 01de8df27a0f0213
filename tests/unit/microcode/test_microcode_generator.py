"""The parts of the generator of embedded tasks: siblings, rearrangements, guarded execution, files, command line."""

import functools
import gzip
import hashlib
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
def test_all_styles_solve_the_problem_and_incorrect_programs_exist(family):
    values = Random(3).choice(settings(family))
    problem = build(family, values, Random(5))  # raises when two styles disagree
    assert len(problem.correct) == len(family.templates)
    assert len(problem.incorrect) >= 2
    assert not set(problem.correct) & set(problem.incorrect)


def test_a_problem_depends_on_its_stream_alone():
    family = BY_NAME["clamp"]
    values = settings(family)[7]
    assert build(family, values, Random("x")) == build(family, values, Random("x"))
    assert build(family, values, Random("x")) != build(family, values, Random("y"))


def test_disagreeing_styles_are_refused():
    family = replace(BY_NAME["linear"], styles="return {a} * {x} {sign.code} {b}\n\nreturn {a} * {x}")
    with pytest.raises(ValueError, match="linear: style 1"):
        build(family, settings(family)[0], Random(0))


def test_siblings_change_one_parameter_or_exchange_two():
    family = BY_NAME["weighted_pair"]
    values = settings(family)[25]
    for other in islice(siblings(family, values, Random(0)), 200):
        changed = [name for name in values if other[name] != values[name]]
        assert len(changed) == 1 or sorted(other[n] for n in changed) == sorted(values[n] for n in changed)
        assert all(other[name] in family.parameters[name] for name in values)


def test_siblings_keep_the_distribution_of_the_parameters():
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


RECORDS = [{"instruction": "def f():\n", "output": f"    return {i}\n", "metadata": {"clean": i == 1}} for i in (1, 2)]
LINES = to_jsonl(RECORDS).splitlines(keepends=True)
zipped = functools.partial(gzip.compress, mtime=0)  # the same bytes, hence names of cases, in every worker


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "generate", lambda: {"test": RECORDS})
    shipping.write(tmp_path / "microcode", {"test": RECORDS})
    return tmp_path / "microcode"


def test_what_is_written_verifies_and_nothing_else_is_left(written):
    assert sorted(path.name for path in written.iterdir()) == ["SHA256SUMS", "metadata.json", "test.jsonl.gz"]
    assert gzip.decompress((written / "test.jsonl.gz").read_bytes()) == to_jsonl(RECORDS)
    assert main(["--verify", str(written)]) == 0


@pytest.mark.parametrize(
    ("name", "content", "signed", "message"),
    [
        ("test.jsonl.gz", None, False, r"test\.jsonl\.gz: is missing, but SHA256SUMS lists it"),
        ("test.jsonl.gz", zipped(b"{}"), False, r"test\.jsonl\.gz: differs from its digest in SHA256SUMS"),
        ("test.jsonl.gz", zipped(b"{}")[:-1], True, "not a whole gzip file"),
        ("test.jsonl.gz", zipped(LINES[0] + LINES[1].replace(b"2", b"3")), True, "from line 2 on"),
        ("test.jsonl.gz", zipped(LINES[0]), True, "from line 2 on"),
        ("test.jsonl.gz", zipped(b""), True, "from line 1 on"),
        ("metadata.json", b"{}\n", True, r"metadata\.json differs"),
        ("SHA256SUMS", b"0" * 64 + b"  ../empty\n", False, "expected files in the directory of the list"),
    ],
)
def test_what_differs_is_named(written, name, content, signed, message):
    """`signed` makes SHA256SUMS fit the file, so that only the comparison with the generator can notice."""
    path, sums = written / name, written / "SHA256SUMS"
    before = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    if signed:
        old, new = (hashlib.sha256(data).hexdigest() for data in (before, content))
        sums.write_text(sums.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        shipping.verify(written)


def test_the_command_line_answers_a_mistake_with_a_sentence(tmp_path, capsys):
    assert main(["--verify", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/nowhere")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: File exists"):
        shipping.write(tmp_path / "file", {"test": RECORDS})
