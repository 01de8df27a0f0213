"""python -m wmtp_jax.storage models: published layouts are set up, verified and loaded; wrong input leaves nothing."""

import json
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from published_models import write_llama, write_multi_token, write_sheared_llama, write_starling

import converters
from converters.__main__ import main as convert
from wmtp_jax.data import load_tokenizer
from wmtp_jax.storage.__main__ import main
from wmtp_jax.storage.verification import verify_assets

VOCABULARY = 1024


@pytest.fixture(scope="module")
def tokenizer(root) -> Path:
    """The tokenizer that all these models share."""
    return root / "storage/models_v2/micro-mtp/tokenizer.model"


@pytest.fixture(scope="module")
def published(root, tokenizer, tmp_path_factory) -> tuple[Path, dict[str, dict]]:
    """The three published models, small, as a user has them after a download; and their weights."""
    facts = root.parent / "shared/facts"
    if not facts.is_dir():
        pytest.skip("needs ../shared/facts, which lies beside the project on its own machines only")
    keys = json.loads((facts / "meta_mtp_7b_1t_4.keys.json").read_text())["tensors"]
    config = json.loads((facts / "sheared_llama_2.7b.config.json").read_text())
    directory = tmp_path_factory.mktemp("published")
    states = {
        "meta-llama-mtp": write_multi_token(directory / "meta-llama-mtp", keys, 16, VOCABULARY),
        "ref-sheared-llama-2.7b": write_sheared_llama(directory / "ref-sheared-llama-2.7b", config, 32, VOCABULARY),
        "starling-rm-7b": write_starling(directory / "starling-rm-7b", 32, 3, 4, VOCABULARY),
    }
    for name in ("meta-llama-mtp", "ref-sheared-llama-2.7b"):
        shutil.copyfile(tokenizer, directory / name / "tokenizer.model")
    return directory, states


@pytest.fixture(scope="module")
def storage(published, tmp_path_factory) -> Path:
    """A storage in which all three are set up."""
    directory, states = published
    storage = tmp_path_factory.mktemp("storage")
    for name in states:
        assert set_up(name, directory / name, storage) == 0
    return storage


@pytest.fixture
def plain(tokenizer, tmp_path) -> Path:
    """A user's Llama."""
    write_llama(tmp_path / "plain", VOCABULARY)
    shutil.copyfile(tokenizer, tmp_path / "plain/tokenizer.model")
    return tmp_path / "plain"


def set_up(name: str, source: Path, storage: Path, *more: str) -> int:
    return main(["models", name, "--from", str(source), "--storage", str(storage), *more])


def metadata_of(directory: Path) -> dict:
    return json.loads((directory / "metadata.json").read_text())


def verified(storage: Path) -> list[tuple[str, str]]:
    """Name and status of the models that are there."""
    found = verify_assets(storage, ["models_v2"])
    return [(Path(asset).name, status) for asset, status, _ in found if status != "not set up"]


def same(ours, torch_tensor) -> bool:
    return np.array_equal(np.asarray(ours, np.float32), torch_tensor.float().numpy())


def test_meta_directory(storage, published):
    directory, state = storage / "models_v2/meta-llama-mtp", published[1]["meta-llama-mtp"]
    expected = ["SHA256SUMS", "configs", "manifest.json", "metadata.json", "safetensors", "tokenizer"]
    assert sorted(path.name for path in directory.iterdir()) == expected
    metadata = metadata_of(directory)
    assert (metadata["layout"], metadata["dtype"], metadata["tensors"]) == ("meta", "float32", 291)
    assert metadata["parameters"] == sum(tensor.numel() for tensor in state.values())
    assert "must not be redistributed" in metadata["licence"]
    assert "published with 6,738,415,616 parameters" in metadata["notes"][0]
    config, params = converters.load(directory)
    assert (config.n_trunk_layers, config.n_future_tokens) == (28, 4)
    head = params["heads"]["feed_forward"]["w1"]
    assert same(head[0], state["layers.28.feed_forward.w1.weight"].T)
    assert same(head[3], state["extra_heads.2.feed_forward.w1.weight"].T)
    assert load_tokenizer(directory).vocab_size == VOCABULARY


def test_sheared_llama_shares_the_tokenizer(storage, published):
    directory, state = storage / "models_v2/ref-sheared-llama-2.7b", published[1]["ref-sheared-llama-2.7b"]
    metadata = metadata_of(directory)
    assert metadata["tokenizer"]["path"] == "../meta-llama-mtp/tokenizer"
    assert (directory / "tokenizer").is_symlink()
    assert load_tokenizer(directory).vocab_size == VOCABULARY
    assert metadata["notes"] == ["left out by name: 32 tensors without parameters"]
    assert metadata["tensors"] == 323 - 32
    config, params = converters.load_hf(directory)
    assert config.rope_theta == 1e4
    assert same(params["trunk"]["feed_forward"]["w2"][5], state["model.layers.5.mlp.down_proj.weight"].T)


def test_starling_keeps_one_backbone_and_its_value_head(storage, published):
    directory, state = storage / "models_v2/starling-rm-7b", published[1]["starling-rm-7b"]
    metadata = metadata_of(directory)
    assert metadata["dtype"] == "bfloat16"
    assert metadata["value_head"] == {"shape": [1, 32], "dtype": "bfloat16"}
    once = sum(tensor.numel() for name, tensor in state.items() if name.startswith("model."))
    assert metadata["parameters"] == once
    assert sum(path.stat().st_size for path in (directory / "safetensors").iterdir()) < 2.2 * once
    _, params, kernel = converters.load_reward_model(directory, dtype="float32")
    assert same(kernel, state["v_head.weight"].T)
    assert same(params["heads"]["feed_forward"]["w3"][0], state["transformer.layers.2.mlp.up_proj.weight"].T)
    from_source = converters.load_reward_model(published[0] / "starling-rm-7b", dtype="float32")
    assert np.array_equal(from_source[1]["trunk"]["attention"]["wq"], params["trunk"]["attention"]["wq"])


def test_a_converted_reward_model_keeps_its_value_head(storage, published, tmp_path, capsys):
    """From the published directory straight to another layout, whose own weights it is not mistaken for."""
    assert convert(["convert", str(published[0] / "starling-rm-7b"), str(tmp_path / "flax"), "--to", "flax"]) == 0
    _, params, kernel = converters.load_reward_model(tmp_path / "flax")
    _, expected, expected_kernel = converters.load_reward_model(storage / "models_v2/starling-rm-7b")
    assert np.array_equal(kernel, expected_kernel)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))
    assert convert(["inspect", str(tmp_path / "flax")]) == 0
    assert "value head: v_head.weight [1, 32]" in capsys.readouterr().out
    with pytest.raises(converters.ConverterError, match="has no value head"):
        converters.load_reward_model(storage / "models_v2/ref-sheared-llama-2.7b")


def test_all_of_them_verify(storage, capsys):
    assert main(["verify", "--check", "models", "--storage", str(storage)]) == 0
    table = capsys.readouterr().out
    assert table.count(" ok ") == 3
    assert "models_v2/micro-mtp" in table
    assert "3 ok" in table


def test_generates_from_it(storage, capsys):
    from wmtp_jax.generate import main as generate

    model = str(storage / "models_v2/starling-rm-7b")
    assert generate(["--model", model, "--prompt", "def f(x):", "--max_new_tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("def f(x):")


def test_the_folder_of_a_repository_with_a_tokenizer_of_the_users(published, tokenizer, tmp_path):
    folder = published[0] / "meta-llama-mtp/7B_1T_4"
    assert set_up("meta-llama-mtp", folder, tmp_path, "--tokenizer", str(tokenizer)) == 0
    assert verified(tmp_path) == [("meta-llama-mtp", "ok")]


def test_any_llama_under_a_name_of_the_users(plain, tmp_path, capsys):
    assert set_up("mine", plain, tmp_path, "--dtype", "bfloat16", "--revision", "of Tuesday") == 0
    metadata = metadata_of(tmp_path / "models_v2/mine")
    assert (metadata["dtype"], metadata["revision"], metadata["source"]) == ("bfloat16", "of Tuesday", str(plain))
    assert verified(tmp_path) == [("mine", "ok")]
    # A converter takes it out again, tokenizer included.
    assert convert(["convert", str(tmp_path / "models_v2/mine"), str(tmp_path / "out"), "--to", "flax"]) == 0
    assert (tmp_path / "out/tokenizer.model").is_file()
    assert convert(["verify", str(tmp_path / "models_v2/mine")]) == 0
    # Its name is taken once.
    sums = (tmp_path / "models_v2/mine/SHA256SUMS").read_bytes()
    assert set_up("mine", plain, tmp_path) == 2
    assert "is set up already" in capsys.readouterr().err
    assert (tmp_path / "models_v2/mine/SHA256SUMS").read_bytes() == sums


def remove_the_tokenizer(source):
    (source / "tokenizer.model").unlink()


def remove_the_weights(source):
    for path in source.glob("*.safetensors*"):
        path.unlink()


def begin_a_download(source):
    (source / ".cache/huggingface/download").mkdir(parents=True)
    (source / ".cache/huggingface/download/model.safetensors.abc.incomplete").touch()


def change_the_vocabulary(source):
    tokenizer = (source / "tokenizer.model").read_bytes()
    shutil.rmtree(source)
    write_llama(source, 1000)
    (source / "tokenizer.model").write_bytes(tokenizer)


def nothing(source):
    """The name does not fit the model."""


SECOND = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("mine", lambda source: (source / SECOND).unlink(), r"safetensors: no such file"),
        ("mine", lambda source: os.truncate(source / SECOND, 125_000), r"is truncated"),
        ("mine", begin_a_download, r"its download is not finished"),
        ("mine", remove_the_tokenizer, r"no tokenizer\.model beside the weights; give one with --tokenizer"),
        ("mine", remove_the_weights, r"no weights found"),
        ("mine", change_the_vocabulary, r"has 1024 pieces but the model's vocab_size is 1000"),
        ("mine", shutil.rmtree, r"no such directory"),
        ("../mine", nothing, r"cannot be a directory of models_v2"),
        ("meta-llama-mtp", nothing, r"is in Hugging Face layout, but meta-llama-mtp is published in the layout 'meta'"),
        ("starling-rm-7b", nothing, r"has no value head"),
        ("ref-sheared-llama-2.7b", remove_the_tokenizer, r"or set up meta-llama-mtp first, whose tokenizer it shares"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(name, damage, message, plain, tmp_path, capsys):
    damage(plain)
    assert set_up(name, plain, tmp_path) == 2
    check_refused(capsys, message, tmp_path)


def check_refused(capsys, message: str, storage: Path) -> None:
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert re.search(message, error), error
    assert not any((storage / "models_v2").glob("*"))


def test_a_full_disk_is_seen_before_anything_is_written(plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert set_up("mine", plain, tmp_path) == 2
    check_refused(capsys, r"needs 0\.\d GB, its disk has 0\.0 GB left", tmp_path)


def test_a_tokenizer_is_taken_from_a_directory(plain, tmp_path):
    given = tmp_path / "given"
    (given / "tokenizer").mkdir(parents=True)
    content = shutil.move(plain / "tokenizer.model", given / "tokenizer" / "tokenizer.model").read_bytes()
    assert set_up("mine", plain, tmp_path, "--tokenizer", str(given)) == 0
    assert (tmp_path / "models_v2/mine/tokenizer/tokenizer.model").read_bytes() == content


def test_the_reference_must_have_the_policys_tokenizer(plain, tokenizer, tmp_path, capsys):
    shared = tmp_path / "models_v2/meta-llama-mtp/tokenizer"
    shared.mkdir(parents=True)
    (shared / "tokenizer.model").write_bytes(tokenizer.read_bytes() + b"\n")
    assert set_up("ref-sheared-llama-2.7b", plain, tmp_path) == 2
    assert "is another tokenizer than" in capsys.readouterr().err
    assert not (tmp_path / "models_v2/ref-sheared-llama-2.7b").exists()


def test_without_a_source_it_says_what_it_would_need(tmp_path, capsys):
    assert main(["models", "--storage", str(tmp_path)]) == 0
    assert "meta-llama-mtp" in capsys.readouterr().out
    assert main(["models", "meta-llama-mtp", "--storage", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "https://huggingface.co/facebook/multi-token-prediction, folder 7B_1T_4" in error
    assert "--download" in error
    assert main(["models", "mine", "--storage", str(tmp_path)]) == 2
    assert "--download OWNER/NAME" in capsys.readouterr().err


def test_a_set_up_that_was_killed_continues(plain, tmp_path, monkeypatch):
    from converters.checkpoint import Checkpoint

    read, weights = Checkpoint.read, []

    def dying(checkpoint, weight):
        weights.append(weight)
        if len(weights) == 7:
            raise KeyboardInterrupt
        return read(checkpoint, weight)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "read", dying)
        assert set_up("mine", plain, tmp_path) == 130
    assert verified(tmp_path) == [("mine.partial", "not finished")]
    assert set_up("mine", plain, tmp_path) == 0
    assert set_up("again", plain, tmp_path) == 0
    digests = [metadata_of(tmp_path / "models_v2" / name)["digests"] for name in ("mine", "again")]
    assert digests[0] == digests[1]
    assert verified(tmp_path) == [("again", "ok"), ("mine", "ok")]
