"""python -m wmtp_jax.generate: streams, counts, and says what is wrong in one sentence."""

import shutil
import sys

import pytest

import converters
from wmtp_jax.decoding import Generation
from wmtp_jax.generate import Stream, main, model_directory
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
        ({"--temperature": "-1"}, "temperature is -1.0"),
        ({"--top_p": "0"}, "top_p is 0"),
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


def test_a_model_without_tokenizer(run_directory, tmp_path, capsys):
    shutil.copytree(run_directory / "export", tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer.model"))
    assert main(["--model", str(tmp_path / "model"), "--prompt", "x"]) == 2
    assert "no tokenizer.model in this directory" in capsys.readouterr().err


def test_a_run_stands_for_its_export(run_directory):
    assert model_directory(run_directory) == run_directory / "export"
    assert model_directory(run_directory / "export") == run_directory / "export"


class Pieces:
    """Tokens 1, 2 are the two bytes of a character, the others text."""

    pieces = ("ab", "", "é", "\n", "de", "f", "d")

    def decode_continuation(self, prompt_ids, new_ids):
        text = "".join(self.pieces[i] for i in new_ids)
        return text + "\ufffd" if new_ids and new_ids[-1] == 1 else text


def streamed(capsys, *steps, stop=(), show_drafts=False):
    """What is on the screen after each step."""
    stream, screens, screen = Stream(Pieces(), [0], stop, show_drafts), [], ""
    for tokens, heads in steps:
        stream(0, tokens, heads)
        screen += capsys.readouterr().out
        screens.append(screen)
    return stream, screens


def test_incomplete_characters_and_beginnings_of_stop_strings_wait(capsys):
    steps = [([0], [1]), ([0, 1], [1, 1]), ([0, 1, 2], [1] * 3), ([0, 1, 2, 3], [1] * 4), ([0, 1, 2, 3, 6], [1] * 5)]
    stream, screens = streamed(capsys, *steps, stop=["\ndef"])
    assert screens == ["ab", "ab", "abé", "abé", "abé"]
    stream.finish(Generation([0, 1, 2, 3, 6], [1] * 5, "length", "abé\nd"))
    assert capsys.readouterr().out == "\nd\n"


def test_nothing_of_a_stop_string_is_printed(capsys):
    stream, screens = streamed(capsys, ([0], [1]), ([0, 3, 4, 5, 0], [1] * 5), stop=["\ndef"])
    assert screens == ["ab", "ab"]
    stream.finish(Generation([0, 3, 4, 5], [1] * 4, "stop", "ab"))
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
