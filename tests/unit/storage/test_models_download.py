"""What is fetched of a repository, and whether there is room for it."""

import shutil

import pytest

from wmtp_jax.storage.errors import StorageError
from wmtp_jax.storage.hub import check_room, choose_files

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
    check_room(tmp_path / "not" / "there" / "yet", 40)
    assert asked == [tmp_path]
    with pytest.raises(StorageError, match="download and result together"):
        check_room(tmp_path, 41)
