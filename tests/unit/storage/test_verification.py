"""What verification finds: every change to a model or data set, even with new checksums."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import safetensors.numpy

from wmtp_jax.storage import write_checksums
from wmtp_jax.storage.__main__ import main
from wmtp_jax.storage.models import set_up_model
from wmtp_jax.storage.verification import verify_assets, verify_data_set

MODEL, DATA = "models_v2/mine", "datasets_v2/tasks"
WEIGHTS, TRAIN, TEST = "safetensors/model.safetensors", "processed/train.jsonl", "processed/test.jsonl.gz"


@pytest.fixture(scope="module")
def set_up(root, tmp_path_factory) -> Path:
    """A storage with a model in folders and a data set."""
    storage = tmp_path_factory.mktemp("storage")
    set_up_model("mine", root / "storage/models_v2/micro-ref", storage, origin="here")
    directory = storage / DATA
    (directory / "processed").mkdir(parents=True)
    (directory / TRAIN).write_text('{"a": 1}\n{"a": 2}\n')
    (directory / TEST).write_bytes(gzip.compress(b'{"a": 3}\n'))
    write_checksums(directory, {"name": "tasks", "records": {TRAIN: 2, TEST: 1}})
    return storage


@pytest.fixture
def storage(set_up, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(set_up, tmp_path / "storage", symlinks=True))


def flip_a_bit(model):
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-1000] ^= 1
    (model / WEIGHTS).write_bytes(content)


def rename_a_tensor(model):
    state = safetensors.numpy.load_file(model / WEIGHTS)
    state["model.layers.2.mlp.up.weight"] = state.pop("model.layers.2.mlp.up_proj.weight")
    safetensors.numpy.save_file(state, model / WEIGHTS)


def change_the_dtype(model):
    state = safetensors.numpy.load_file(model / WEIGHTS)
    safetensors.numpy.save_file({name: value.astype("float32") for name, value in state.items()}, model / WEIGHTS)


def change_the_manifest(model):
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["tensors"]["model.norm.weight"]["shape"] = [64]
    (model / "manifest.json").write_text(json.dumps(manifest))


def change_the_tokenizer(model):
    path = model / "tokenizer/tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\n")


def nothing(directory):
    """Metadata alone are changed."""


# What a careless hand does: metadata are changed, and digests are made of whatever is there; None: neither.
RENEWED = {}


@pytest.mark.parametrize(
    ("asset", "damage", "metadata", "finding"),
    [
        (MODEL, flip_a_bit, None, "differs from its digest in SHA256SUMS"),
        (MODEL, flip_a_bit, RENEWED, "1 of 48 tensors differ from manifest.json"),
        (
            MODEL,
            lambda d: (d / "configs/config.json").unlink(),
            None,
            "config.json: is missing, but SHA256SUMS",
        ),
        (MODEL, lambda d: (d / "notes.txt").touch(), None, "notes.txt: is not among the files of SHA256SUMS"),
        (MODEL, lambda d: (d / "SHA256SUMS").unlink(), None, "has no SHA256SUMS"),
        (MODEL, rename_a_tensor, RENEWED, "1 missing, 1 unexpected"),
        (MODEL, change_the_dtype, RENEWED, "tensors differ from manifest.json"),
        (MODEL, change_the_manifest, RENEWED, "the shape of model.norm.weight is [128], listed is [64]"),
        (MODEL, change_the_tokenizer, RENEWED, "is another tokenizer than when the model was set up"),
        (MODEL, nothing, {"parameters": 7}, "says that parameters is 7, but it is 1246592"),
        (MODEL, nothing, {"name": "theirs"}, "says that name is 'theirs', but it is 'mine'"),
        (DATA, lambda d: (d / TRAIN).write_text("{}\n"), None, "differs from its digest"),
        (DATA, lambda d: (d / TRAIN).write_text("{}\n"), RENEWED, "says that processed/train.jsonl is 2, but it is 1"),
        (
            DATA,
            lambda d: (d / TEST).write_bytes(gzip.compress(b"{}\n{}")),
            RENEWED,
            "says that processed/test.jsonl.gz is 1, but it is 2",
        ),
        (DATA, nothing, {"records": {}}, "has no 'records'"),
    ],
)
def test_every_damage_is_found(asset, damage, metadata, finding, storage):
    damage(storage / asset)
    if metadata is not None:
        write_checksums(storage / asset, json.loads((storage / asset / "metadata.json").read_text()) | metadata)
    (found,) = [status for status in verify_assets(storage) if status.asset == asset]
    assert found.status == "failed"
    assert finding in found.finding


def test_sound_assets_and_those_that_were_never_set_up(storage, capsys):
    (storage / "models_v2/begun.partial").mkdir()
    found = {status.asset: status for status in verify_assets(storage)}
    assert found[MODEL] == (MODEL, "ok", "1,246,592 parameters, float16, Hugging Face layout")
    assert found[DATA] == (DATA, "ok", "3 rows in 2 files")
    assert found["models_v2/meta-llama-mtp"].status == "not set up"
    assert found["models_v2/begun.partial"].status == "not finished"
    assert main(["verify", "--storage", str(storage)]) == 0
    (storage / MODEL / "notes.txt").touch()
    assert main(["verify", "--check", "datasets", "--storage", str(storage)]) == 0
    assert "models_v2" not in capsys.readouterr().out.splitlines()[-3]
    assert main(["verify", "--storage", str(storage)]) == 1
    assert "1 failed" in capsys.readouterr().out
    assert main(["verify", "--storage", str(storage / "nowhere")]) == 2
    assert "nowhere: no such directory; expected one that holds models_v2 and datasets_v2" in capsys.readouterr().err


def test_what_ships_with_the_project(root):
    found = {asset.asset: asset.status for asset in verify_assets(root / "storage")}
    assert [found[name] for name in ("models_v2/micro-mtp", "models_v2/micro-ref", "datasets_v2/microcode")] == [
        "ok"
    ] * 3


@pytest.mark.parametrize(("content", "rows"), [(b"", 0), (b"a\n", 1), (b"a", 1), (b"a\nb", 2), (b"\n\n", 2)])
def test_rows_are_counted_with_or_without_a_last_line_end(content, rows, tmp_path):
    directory = tmp_path / "tasks"
    directory.mkdir()
    (directory / "a.jsonl").write_bytes(content)
    write_checksums(directory, {"name": "tasks", "records": {"a.jsonl": rows}})
    assert verify_data_set(directory) == f"{rows} rows in 1 files"
