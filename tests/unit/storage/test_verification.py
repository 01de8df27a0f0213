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
from wmtp_jax.storage.verification import AssetStatus, verify_assets, verify_data_set


@pytest.fixture(scope="module")
def set_up(root, tmp_path_factory) -> Path:
    """A storage with a model in folders and a data set."""
    storage = tmp_path_factory.mktemp("storage")
    set_up_model("mine", root / "storage/models_v2/micro-ref", storage, origin="here")
    directory = storage / "datasets_v2/tasks"
    (directory / "processed").mkdir(parents=True)
    (directory / "processed/train.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (directory / "processed/test.jsonl.gz").write_bytes(gzip.compress(b'{"a": 3}\n'))
    write_checksums(directory, {"name": "tasks", "records": {"processed/train.jsonl": 2, "processed/test.jsonl.gz": 1}})
    return storage


@pytest.fixture
def storage(set_up, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(set_up, tmp_path / "storage", symlinks=True))


def statuses(storage: Path) -> dict[str, AssetStatus]:
    return {asset.asset: asset for asset in verify_assets(storage)}


def renew_checksums(directory: Path, **changes) -> None:
    """What a careless hand does: new digests over whatever is there."""
    metadata = json.loads((directory / "metadata.json").read_text()) | changes
    write_checksums(directory, metadata)


def weights(storage: Path) -> Path:
    return storage / "models_v2/mine/safetensors/model.safetensors"


def flipped_bit(storage):
    with open(weights(storage), "r+b") as file:
        file.seek(-1000, 2)
        byte = file.read(1)[0]
        file.seek(-1000, 2)
        file.write(bytes([byte ^ 1]))


def flipped_bit_with_new_checksums(storage):
    flipped_bit(storage)
    renew_checksums(storage / "models_v2/mine")


def missing_file(storage):
    (storage / "models_v2/mine/configs/config.json").unlink()


def extra_file(storage):
    (storage / "models_v2/mine/safetensors/notes.txt").write_text("mine")


def renamed_tensor(storage):
    state = safetensors.numpy.load_file(weights(storage))
    state["model.layers.2.mlp.up.weight"] = state.pop("model.layers.2.mlp.up_proj.weight")
    safetensors.numpy.save_file(state, weights(storage))
    renew_checksums(storage / "models_v2/mine")


def other_dtype(storage):
    state = {name: value.astype("float32") for name, value in safetensors.numpy.load_file(weights(storage)).items()}
    safetensors.numpy.save_file(state, weights(storage))
    renew_checksums(storage / "models_v2/mine")


def changed_count(storage):
    renew_checksums(storage / "models_v2/mine", parameters=7)


def other_manifest(storage):
    path = storage / "models_v2/mine/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tensors"]["model.norm.weight"]["shape"] = [64]
    path.write_text(json.dumps(manifest))
    renew_checksums(storage / "models_v2/mine")


def other_tokenizer(storage):
    path = storage / "models_v2/mine/tokenizer/tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\n")
    renew_checksums(storage / "models_v2/mine")


def without_checksums(storage):
    (storage / "models_v2/mine/SHA256SUMS").unlink()


def other_name(storage):
    renew_checksums(storage / "models_v2/mine", name="theirs")


MODEL_DAMAGES = [
    (flipped_bit, "differs from its digest in SHA256SUMS"),
    (
        flipped_bit_with_new_checksums,
        "1 of 48 tensors differ from manifest.json",
    ),
    (missing_file, "configs/config.json: is missing, but SHA256SUMS lists it"),
    (extra_file, "notes.txt: is not among the files of SHA256SUMS"),
    (renamed_tensor, "1 missing, 1 unexpected"),
    (other_dtype, "tensors differ from manifest.json"),
    (changed_count, "says that parameters is 7, but it is 1246592"),
    (other_manifest, "the shape of model.norm.weight is [128], listed is [64]"),
    (other_tokenizer, "is another tokenizer than when the model was set up"),
    (without_checksums, "has no SHA256SUMS"),
    (other_name, "says that name is 'theirs', but it is 'mine'"),
]


@pytest.mark.parametrize(("damage", "finding"), MODEL_DAMAGES, ids=[damage.__name__ for damage, _ in MODEL_DAMAGES])
def test_damaged_model(damage, finding, storage):
    damage(storage)
    found = statuses(storage)["models_v2/mine"]
    assert found.status == "failed"
    assert finding in found.finding


def row_lost(directory):
    (directory / "processed/train.jsonl").write_text('{"a": 1}\n')


def row_lost_with_new_checksums(directory):
    row_lost(directory)
    renew_checksums(directory)


def compressed_row_added(directory):
    (directory / "processed/test.jsonl.gz").write_bytes(gzip.compress(b'{"a": 3}\n{"a": 4}'))
    renew_checksums(directory)


def counts_left_out(directory):
    renew_checksums(directory, records={})


DATA_DAMAGES = [
    (row_lost, "differs from its digest"),
    (row_lost_with_new_checksums, "says that processed/train.jsonl is 2, but it is 1"),
    (compressed_row_added, "says that processed/test.jsonl.gz is 1, but it is 2"),
    (counts_left_out, "has no 'records'"),
]


@pytest.mark.parametrize(("damage", "finding"), DATA_DAMAGES, ids=[damage.__name__ for damage, _ in DATA_DAMAGES])
def test_damaged_data_set(damage, finding, storage):
    damage(storage / "datasets_v2/tasks")
    found = statuses(storage)["datasets_v2/tasks"]
    assert found.status == "failed"
    assert finding in found.finding


def test_sound_assets_and_those_that_were_never_set_up(storage, capsys):
    (storage / "models_v2/begun.partial").mkdir()
    found = statuses(storage)
    assert found["models_v2/mine"] == (
        "models_v2/mine",
        "ok",
        "1,246,592 parameters, float16, Hugging Face layout",
    )
    assert found["datasets_v2/tasks"][1:] == ("ok", "3 rows in 2 files")
    assert found["models_v2/meta-llama-mtp"].status == "not set up"
    assert found["models_v2/begun.partial"].status == "not finished"
    assert main(["verify", "--storage", str(storage)]) == 0
    extra_file(storage)
    assert main(["verify", "--check", "datasets", "--storage", str(storage)]) == 0
    assert "models_v2" not in capsys.readouterr().out.splitlines()[-3]
    assert main(["verify", "--storage", str(storage)]) == 1
    assert "1 failed" in capsys.readouterr().out


def test_a_storage_that_does_not_exist_is_a_mistake(tmp_path, capsys):
    assert main(["verify", "--storage", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such directory; expected one that holds models_v2 and datasets_v2" in capsys.readouterr().err


def test_what_ships_with_the_project(root):
    found = {asset.asset: asset.status for asset in verify_assets(root / "storage")}
    assert [found[f"models_v2/{name}"] for name in ("micro-mtp", "micro-ref")] == ["ok", "ok"]
    assert found["datasets_v2/microcode"] == "ok"


@pytest.mark.parametrize(("content", "rows"), [(b"", 0), (b"a\n", 1), (b"a", 1), (b"a\nb", 2), (b"\n\n", 2)])
def test_rows_are_counted_with_or_without_a_last_line_end(content, rows, tmp_path):
    directory = tmp_path / "tasks"
    directory.mkdir()
    (directory / "a.jsonl").write_bytes(content)
    write_checksums(directory, {"name": "tasks", "records": {"a.jsonl": rows}})
    assert verify_data_set(directory) == f"{rows} rows in 1 files"
