"""What is fetched of a repository, and whether there is room for it."""

import shutil
from types import SimpleNamespace

import pytest

from wmtp_jax.errors import UserError
from wmtp_jax.files import FileLock
from wmtp_jax.storage.assets import StorageError, check_room
from wmtp_jax.storage.hub import RemoteFile, choose_files, download, fetch

META = ["7B_1T_1/params.json", "7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "README.md", "tokenizer.model"]
LLAMA = ["config.json", "tokenizer.json", "tokenizer.model", "README.md", "original/consolidated.00.pth"]
SAFETENSORS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
BIN = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"]


@pytest.mark.parametrize(
    ("files", "folder", "chosen"),
    [
        (META, "7B_1T_4", ["7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "tokenizer.model"]),
        (META, "7B_1T_1", []),
        (LLAMA + SAFETENSORS + BIN, "", ["config.json", *SAFETENSORS, "tokenizer.json", "tokenizer.model"]),
        (LLAMA + BIN, "", ["config.json", *BIN, "tokenizer.json", "tokenizer.model"]),
        (["pytorch_model.bin", "config.json"], "", ["config.json", "pytorch_model.bin"]),
        (["README.md"], "", []),
    ],
)
def test_one_format_of_the_weights_is_fetched(files, folder, chosen):
    assert choose_files(files, folder) == chosen


def test_room_is_looked_for_on_the_disk_that_will_be_written(tmp_path, monkeypatch):
    asked = []

    def disk_usage(path):
        asked.append(path)
        return shutil._ntuple_diskusage(100, 60, 40)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    check_room(tmp_path / "not" / "there" / "yet", 40, "{:.2f} GB are needed")
    assert asked == [tmp_path]
    with pytest.raises(StorageError, match=r"0\.00 GB are needed, but its disk has 0\.00 GB left"):
        check_room(tmp_path, 41, "{:.2f} GB are needed")


def test_what_a_stopped_set_up_wrote_needs_no_room_again(tmp_path, monkeypatch):
    """All is fetched, half of the result is written, and there is room for the other half alone."""
    hub = pytest.importorskip("huggingface_hub", reason="downloading needs the extra 'datasets'")
    size, partial = 1 << 20, tmp_path / "mine.partial"
    info = SimpleNamespace(sha="commit", siblings=[SimpleNamespace(rfilename="model.bin")])
    monkeypatch.setattr(hub.HfApi, "repo_info", lambda *_, **__: info)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: SimpleNamespace(size=size, etag=""))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(4 * size, 0, size // 2))
    for path, content in ((tmp_path / "commit/model.bin", size), (partial / "model/model.bin", size // 2)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * content)
    get = lambda: download("someone/llama", None, lambda names: names, tmp_path, result=partial)
    assert get() == "commit"
    with FileLock(tmp_path / "lock", "", ""), pytest.raises(UserError, match="is in use by process"):
        get()
    shutil.rmtree(partial)
    with pytest.raises(StorageError, match="download and result together"):
        get()


def test_a_file_in_the_hubs_own_cache_is_linked(tmp_path):
    """The url leads nowhere: nothing is fetched."""
    (tmp_path / "blob").write_bytes(b"weights")
    part = RemoteFile("inner/model.bin", "http://127.0.0.1:9/", 7, "", str(tmp_path / "blob"))
    fetch(part, tmp_path / "here", {})
    assert (tmp_path / "here/inner/model.bin").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("etag", "whole"), [("3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7", True), ("0" * 64, False)]
)
def test_bytes_that_came_before_are_checked_too(etag, whole, tmp_path):
    """All bytes came, then the process was killed: what is there is compared with the hub's digest."""
    (tmp_path / "model.bin.incomplete").write_bytes(b"data")
    part = RemoteFile("model.bin", "http://127.0.0.1:9/", 4, etag, None)
    if whole:
        fetch(part, tmp_path, {})
        assert (tmp_path / "model.bin").read_bytes() == b"data"
    else:
        with pytest.raises(StorageError, match="does not have the hub's digest"):
            fetch(part, tmp_path, {})
        assert list(tmp_path.iterdir()) == []
