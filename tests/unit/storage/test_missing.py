"""--dry_run of the 7B presets on a machine that has nothing yet: every command that it names is one that exists."""

import re
import shlex

import pytest

from wmtp_jax.storage.__main__ import make_parser
from wmtp_jax.storage.missing import how_to_get, missing_assets
from wmtp_jax.train import main

MTP = "HF_TOKEN=... python -m wmtp_jax.storage models meta-llama-mtp --download"
SHEARED = "python -m wmtp_jax.storage models ref-sheared-llama-2.7b --download"
STARLING = "python -m wmtp_jax.storage models starling-rm-7b --download"
CODECONTESTS = "python -m wmtp_jax.storage datasets codecontests --download"


@pytest.mark.parametrize(
    ("config", "flags", "commands"),
    [
        ("baseline", [], [MTP, CODECONTESTS, CODECONTESTS]),
        ("verifiable", [], [MTP, CODECONTESTS, CODECONTESTS]),
        (
            "verifiable",
            ["--config.critic.model=storage/models_v2/ref-sheared-llama-2.7b", "--config.data.reward=reward_model"],
            [MTP, CODECONTESTS, CODECONTESTS, SHEARED, STARLING],
        ),
        ("rho1_weighted", [], [MTP, CODECONTESTS, CODECONTESTS, SHEARED]),
    ],
)
def test_dry_run_of_the_7b_presets(config, flags, commands, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("wmtp_jax.storage.assets.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["--config", f"{root}/configs/{config}.py:7b", "--dry_run", *flags]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^ {6}(.*)$", printed.partition("missing:")[2], re.MULTILINE) == commands
    assert "clip_norm: 0.1" in printed
    for command in commands:
        arguments = shlex.split(command.partition("wmtp_jax.storage ")[2])
        make_parser().parse_args(arguments)


def test_micro_presets_miss_nothing(root, capsys):
    assert main(["--config", f"{root}/configs/rho1_weighted.py", "--dry_run"]) == 0
    assert capsys.readouterr().out.startswith("nothing is missing\n")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("storage/datasets_v2/codecontests-small/processed/train.jsonl", f"{CODECONTESTS} --small"),
        ("storage/datasets_v2/humaneval/processed/test.jsonl", "python -m wmtp_jax.storage datasets humaneval"),
        ("storage/datasets_v2/own/train.jsonl", "give one that exists: --config.data.train=PATH"),
        ("storage/models_v2/my-llama", "python -m wmtp_jax.storage models my-llama --from DIR"),
        ("storage/models_v2/micro-mtp", "git checkout -- storage/models_v2/micro-mtp"),
        ("/big/models_v2/starling-rm-7b", f"{STARLING} --storage /big"),
        ("models_v2", "give one that exists: --config.data.train=PATH"),
        ("elsewhere/train.jsonl", "give one that exists: --config.data.train=PATH"),
    ],
)
def test_command_of_a_path(path, command):
    assert how_to_get(path, "data.train") == command


def test_what_cannot_be_used_is_told_apart_from_what_is_missing(root, tmp_path):
    micro = root / "storage/models_v2/micro-mtp"
    (tmp_path / "model").mkdir()
    paths = {
        "model.path": str(micro),
        "model.tokenizer": str(micro / "tokenizer.model"),
        "critic.model": str(tmp_path / "model"),
        "rho1.reference": str(micro / "params.json"),
        "critic.path": str(tmp_path),
        "data.train": str(micro / "metadata.json"),
        "data.valid": str(tmp_path / "gone.jsonl"),
    }
    lines = missing_assets(paths).splitlines()
    assert lines[:3] == [
        "missing:",
        f"  config.data.valid = {tmp_path}/gone.jsonl",
        "      give one that exists: --config.data.valid=PATH",
    ]
    assert lines[3] == "cannot be used:"
    assert lines[4::2] == [
        f"  config.{field} = {paths[field]}" for field in ("critic.model", "rho1.reference", "data.train")
    ]
    expected = (
        "is not a model directory",
        "params.json: is a file; expected the directory",
        "metadata.json: unknown kind of file",
    )
    assert all(part in line for part, line in zip(expected, lines[5::2], strict=True))
