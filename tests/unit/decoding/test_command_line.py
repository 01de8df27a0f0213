"""python -m wmtp_jax.generate: streams, counts, and says what is wrong in one sentence."""

import shutil
import signal
import subprocess
import sys

import pytest

import converters
from wmtp_jax.decoding import Generation
from wmtp_jax.generate import TextStreamer, main
from wmtp_jax.model import ModelConfig, init_params

CONFIG = ModelConfig(dim=16, n_layers=4, n_heads=2, vocab_size=1024, ffn_dim=24, n_future_tokens=2, max_seq_len=64)


@pytest.fixture(scope="module")
def run_directory(root, tmp_path_factory):
    """A training run with its exported model: random weights and the project's tokenizer."""
    directory = tmp_path_factory.mktemp("run")
    converters.save_meta(directory / "export", CONFIG, init_params(CONFIG, seed=1))
    shutil.copyfile(root / "storage/models_v2/micro-mtp/tokenizer.model", directory / "export/tokenizer.model")
    return directory


def test_streamed_text_does_not_depend_on_speculation(run_directory, capsys):
    command = ["--model", str(run_directory), "--prompt", "def f(x):\n", "--max_new_tokens", "12", "--show_drafts"]
    assert main(command) == 0
    drafted = capsys.readouterr()
    assert main([*command, "--no_speculation"]) == 0
    alone = capsys.readouterr()
    assert drafted.out == alone.out
    assert drafted.out.startswith("def f(x):\n")
    assert "\033" not in drafted.out  # No colours into a file or a pipe.
    assert "12 tokens" in drafted.err
    assert "tokens per forward pass" in drafted.err
    assert "drafts kept: head 2" in drafted.err
    assert "1.00 tokens per forward pass (12 passes)" in alone.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--model": "/nowhere"}, "/nowhere"),
        ({"--temperature": "-1"}, "--temperature: '-1' is not a finite number of at least 0"),
        ({"--temperature": "inf"}, "--temperature: 'inf' is not a finite number"),
        ({"--temperature": "nan"}, "--temperature: 'nan' is not a finite number"),
        ({"--top_p": "0"}, "--top_p: '0' is not a finite number above 0 and at most 1"),
        ({"--seed": str(2**63)}, "--seed: '9223372036854775808' is not a whole number from 0"),
        ({"--seed": "9" * 100_000}, "999…"),
        ({"--max_new_tokens": "0"}, "--max_new_tokens: '0' is not a whole number"),
        ({"--prompt": "x = 1\n" * 40}, "leaves no room in the model's context of 64"),
        ({"--stop": ""}, "non-empty"),
    ],
)
def test_mistakes_exit_with_one_sentence(run_directory, capsys, changes, message):
    command = {"--model": str(run_directory), "--prompt": "x", **changes}
    assert main([part for pair in command.items() for part in pair]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err
    assert output.err.count("\n") == 1
    assert len(output.err) < 500


def test_arguments_are_checked_before_anything_heavy_is_imported():
    script = """
import sys
from wmtp_jax.generate import main
code = main(["--model", "x", "--prompt", "y", "--seed", "-1"])
assert not {"jax", "numpy", "converters"} & set(sys.modules)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: argument --seed")


def test_help_ends_with_examples(capsys):
    assert main(["--help"]) == 0
    *_, title, first, second = capsys.readouterr().out.splitlines()
    assert title == "examples:"
    assert all(line.startswith("  python -m wmtp_jax.generate --model") for line in (first, second))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_their_exit_codes(number, code, run_directory, capsys, monkeypatch):
    monkeypatch.setattr(converters, "load", lambda *_, **__: signal.raise_signal(number))
    assert main(["--model", str(run_directory), "--prompt", "x"]) == code
    assert capsys.readouterr().err.count("\n") == 2


def test_a_model_without_tokenizer(run_directory, tmp_path, capsys):
    shutil.copytree(run_directory / "export", tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer.model"))
    assert main(["--model", str(tmp_path / "model"), "--prompt", "x"]) == 2
    assert "no tokenizer.model in this directory" in capsys.readouterr().err


class Pieces:
    """Tokens 1, 2 are the two bytes of a character, the others text."""

    pieces = ("ab", "", "é", "\n", "de", "f", "d")

    def decode_continuation(self, prompt_ids, new_ids):
        text = "".join(self.pieces[i] for i in new_ids)
        return text + "\ufffd" if new_ids and new_ids[-1] == 1 else text


def streamed(capsys, *steps, stop=(), show_drafts=False):
    """What is on the screen after each step."""
    streamer, screens, screen = TextStreamer(Pieces(), [0], stop, show_drafts), [], ""
    for tokens, heads in steps:
        streamer(0, tokens, heads)
        screen += capsys.readouterr().out
        screens.append(screen)
    return streamer, screens


def test_incomplete_characters_and_beginnings_of_stop_strings_wait(capsys):
    steps = [([0], [1]), ([0, 1], [1, 1]), ([0, 1, 2], [1] * 3), ([0, 1, 2, 3], [1] * 4), ([0, 1, 2, 3, 6], [1] * 5)]
    streamer, screens = streamed(capsys, *steps, stop=["\ndef"])
    assert screens == ["ab", "ab", "abé", "abé", "abé"]
    streamer.finish(Generation([0, 1, 2, 3, 6], [1] * 5, "length", "abé\nd"))
    assert capsys.readouterr().out == "\nd\n"


def test_nothing_of_a_stop_string_is_printed(capsys):
    streamer, screens = streamed(capsys, ([0], [1]), ([0, 3, 4, 5, 0], [1] * 5), stop=["\ndef"])
    assert screens == ["ab", "ab"]
    streamer.finish(Generation([0, 3, 4, 5], [1] * 4, "stop", "ab"))
    assert capsys.readouterr().out == "\n"


def test_drafts_are_coloured(capsys):
    _, screens = streamed(capsys, ([0, 4, 5, 0], [1, 2, 3, 1]), show_drafts=True)
    assert screens == ["ab\033[32mdef\033[0mab"]


def test_the_prompt_may_come_from_standard_input(run_directory, capsys, monkeypatch, tmp_path):
    (tmp_path / "prompt").write_text("def g(y):\n    return")
    with (tmp_path / "prompt").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["--model", str(run_directory), "--prompt", "-", "--max_new_tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("def g(y):\n    return")


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_prompt_of_another_encoding_is_refused(errors, run_directory, capsys, monkeypatch, tmp_path):
    (tmp_path / "prompt").write_bytes(b"caf\xe9")
    with (tmp_path / "prompt").open(encoding="utf-8", errors=errors) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["--model", str(run_directory), "--prompt", "-"]) == 2
    assert capsys.readouterr().err.startswith("error: the prompt is not UTF-8 text (")
