"""What a kill, a full disk or a second process leaves of a conversion, and what the same command makes of it."""

import json
import shutil
import signal
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest

from wmtp_jax.files import atomic_directory

KILLED = """
import os, shutil, signal, sys
from converters.__main__ import main
from converters.checkpoint import Checkpoint

def after(calls, function):
    left = [calls]
    def counted(*arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return counted

{patch}
main(sys.argv[1:])
"""
WHILE_READING = "Checkpoint.read = after(35, Checkpoint.read)"


def killed(root: Path, patch: str, *arguments) -> None:
    """Runs the command, which dies by SIGKILL."""
    command = [sys.executable, "-c", KILLED.format(patch=patch), *map(str, arguments)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def written_tensors(monkeypatch) -> list[str]:
    from converters.output import Output

    names, write = [], Output.write
    monkeypatch.setattr(Output, "write", lambda self, name, pieces: (names.append(name), write(self, name, pieces)))
    return names


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory) -> Path:
    """What an undisturbed conversion of the Meta model writes."""
    from converters.__main__ import main

    path = tmp_path_factory.mktemp("whole") / "out"
    assert main(["convert", str(sources / "meta"), str(path), "--to", "flax"]) == 0
    return path


def test_a_killed_conversion_continues(root, sources, whole, tmp_path, monkeypatch, run):
    killed(root, WHILE_READING, "convert", sources / "meta", tmp_path / "out", "--to", "flax")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.journal", "out.partial"]
    journal = (tmp_path / ".out.journal").read_text().splitlines()
    kept = [json.loads(line)["name"] for line in journal[1:]]
    assert 5 <= len(kept) < 21
    # A finished tensor that the disk lost is noticed by its digest and written again.
    weights = bytearray((tmp_path / "out.partial" / "params.safetensors").read_bytes())
    header_bytes = 8 + struct.unpack("<Q", weights[:8])[0]
    begin, _ = json.loads(weights[8:header_bytes])[kept[2]]["data_offsets"]
    weights[header_bytes + begin] ^= 0xFF
    (tmp_path / "out.partial" / "params.safetensors").write_bytes(weights)
    with open(tmp_path / ".out.journal", "a") as file:
        file.write('{"name": "norm.sc')  # A torn last line.
    names = written_tensors(monkeypatch)
    assert run("convert", sources / "meta", tmp_path / "out", "--to", "flax")[0] == 0
    everything = json.loads((whole / "manifest.json").read_text())["tensors"]
    assert set(names) == set(everything) - set(kept) | {kept[2]}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert contents(tmp_path / "out") == contents(whole)


def test_another_source_does_not_continue_it(root, sources, tmp_path, monkeypatch, run):
    killed(root, WHILE_READING, "convert", sources / "meta", tmp_path / "out", "--to", "flax")
    names = written_tensors(monkeypatch)
    assert run("convert", sources / "sharded", tmp_path / "out", "--to", "flax")[0] == 0
    assert len(names) == 21
    assert run("verify", tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        *[("json.dumps", 4), ("os.replace", 1), ("os.replace", 2), ("os.replace", 4)],
        *[("os.fsync", 3), ("os.open", 9), ("os.unlink", 1), ("os.rmdir", 1)],
    ],
)
def test_whatever_a_kill_leaves_is_taken_over(root, model, whole, tmp_path, run, function, calls):
    """A kill at steps of writing, of the new name, and of the removal of a partial directory after an error."""
    source = model("meta")
    removing = function in ("os.unlink", "os.rmdir")
    patch = f"import json; {function} = after({calls}, {function})"
    config = (source / "params.json").read_text()
    destination = tmp_path / "results" / "out"
    if removing:  # Something to be removed: NaN in the last tensor.
        weights = (source / "consolidated.safetensors").read_bytes()
        (source / "consolidated.safetensors").write_bytes(weights[:-4] + struct.pack("<f", float("nan")))
    killed(root, patch, "convert", source, destination, "--to", "flax")
    assert not destination.exists()
    if removing:
        (source / "consolidated.safetensors").write_bytes(weights)
    assert (source / "params.json").read_text() == config
    assert run("convert", source, destination, "--to", "flax")[0] == 0
    assert contents(destination).keys() == contents(whole).keys()
    assert contents(destination)["params.safetensors"] == contents(whole)["params.safetensors"]
    assert [path.name for path in destination.parent.iterdir()] == ["out"]


def test_two_conversions_to_one_place(sources, tmp_path, run):
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "out"):
        code, _, error = run("convert", sources / "meta", tmp_path / "out", "--to", "flax")
        raise KeyboardInterrupt
    assert code == 2
    assert f"{tmp_path / 'out'}: another process is writing it" in error


def test_a_disk_that_is_too_small(sources, tmp_path, run, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    code, _, error = run("convert", sources / "meta", tmp_path / "out", "--to", "flax")
    assert code == 2
    assert "make room" in error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_the_same_command_continues(root, sources, whole, tmp_path, run):
    """A limit on the size of files stands for the end of the disk: the kernel refuses in the same place."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "from converters.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "convert", sources / "meta", tmp_path / "out", "--to", "flax"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert f"{tmp_path / 'out'}" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("convert", sources / "meta", tmp_path / "out", "--to", "flax")[0] == 0
    assert contents(tmp_path / "out") == contents(whole)
