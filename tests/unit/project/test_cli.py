"""How commands fail and exit."""

import argparse
import os
import signal

import pytest

from wmtp_jax import cli
from wmtp_jax.errors import FileError, UserError
from wmtp_jax.files import cache_directory


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("ending", "code", "says"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (lambda: _raise(UserError("a is wrong; do b")), 2, "error: a is wrong; do b\n"),
        (lambda: _raise(OSError(2, "No such file", "x")), 2, "error: x: No such file; again\n"),
        (lambda: os.kill(os.getpid(), signal.SIGINT), 130, "\ninterrupted; again\n"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "\nterminated by SIGTERM; again\n"),
    ],
)
def test_exit_codes(capsys, ending, code, says):
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run(ending, "again") == code
    assert capsys.readouterr().err == says
    assert signal.getsignal(signal.SIGTERM) is before


def test_compiled_programs_are_kept_where_the_user_or_the_cache_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = lambda: cli.run(lambda: 0) or os.environ["JAX_COMPILATION_CACHE_DIR"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    assert found() == "elsewhere"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert found() == str(tmp_path / "wmtp_jax" / "compiled")


def test_a_user_without_a_home_directory_does_without_kept_programs(monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cli.run(lambda: 0) == 0
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    with pytest.raises(FileError, match="has no home directory; set HOME or XDG_CACHE_HOME"):
        cache_directory()


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def _parse(*arguments):
    parser = cli.ArgumentParser(prog="p", description="Does it.", examples=["p --seed 1", "p --seed 2"])
    parser.add_argument("--seed", type=cli.seed)
    parser.add_argument("--share", type=cli.number(0, 1))
    parser.add_argument("--rate", type=cli.number(above=0))
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *[("--seed", text) for text in ("-1", "9223372036854775808", "1.5", "9" * 10**5, "x")],
        *[("--share", text) for text in ("nan", "inf", "-0.1", "1.1", "")],
        *[("--rate", text) for text in ("0", "inf", "nan")],
        ("--see", "1"),
        ("stray",),
    ],
)
def test_refused_arguments(capsys, arguments):
    assert cli.run(lambda: _parse(*arguments) and None) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.endswith("see p --help\n")
    assert len(message) < 300


def test_accepted_arguments():
    assert _parse("--seed", "9223372036854775807", "--share", "1", "--rate", "1e-9") == argparse.Namespace(
        seed=2**63 - 1, share=1.0, rate=1e-9
    )


def test_help_ends_with_examples(capsys):
    assert cli.run(lambda: _parse("--help") and None) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["examples:", "  p --seed 1", "  p --seed 2"]
