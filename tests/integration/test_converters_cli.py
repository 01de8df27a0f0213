"""python -m converters from a user's seat: what works, what is refused, and what a kill leaves."""

import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import converters
from converters.__main__ import main
from wmtp_jax.model import ModelConfig, init_params

CONFIG = ModelConfig(dim=24, n_layers=5, n_heads=6, n_kv_heads=2, vocab_size=37, ffn_dim=43, n_future_tokens=2)
PLAIN = ModelConfig(dim=24, n_layers=3, n_heads=6, n_kv_heads=2, vocab_size=37, ffn_dim=43)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """One small sound model per layout, single and sharded."""
    root = tmp_path_factory.mktemp("models")
    params = init_params(CONFIG)
    converters.save_meta(root / "meta", CONFIG, params)
    converters.save_meta(root / "sharded", CONFIG, params, max_shard_bytes=20_000)
    converters.save_hf(root / "hf", PLAIN, init_params(PLAIN))
    for name in ("meta", "sharded", "hf"):
        (root / name / "tokenizer.model").write_bytes(b"pieces")
        (root / name / "manifest.json").unlink()
    return root


@pytest.fixture
def model(sources, tmp_path):
    """A copy of one of them, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(sources / name, tmp_path / "source"))

    return copy


def edit_json(path: Path, **changes) -> None:
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


def edit_tensors(directory: Path, edit) -> None:
    path = next(directory.glob("*.safetensors"))
    state = safetensors.numpy.load_file(path)
    edit(state)
    safetensors.numpy.save_file(state, path)


def edit_header(path: Path, edit) -> None:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = edit(data[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


def write_pth(directory: Path, pickled: bytes) -> None:
    (directory / "consolidated.safetensors").unlink()
    with zipfile.ZipFile(directory / "consolidated.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-pickle-ran",)


def truncated_file(directory):
    path = directory / "consolidated.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(directory):
    path = directory / "consolidated.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def trailing_bytes(directory):
    with open(directory / "consolidated.safetensors", "ab") as file:
        file.write(b"more")


def wrong_magic(directory):
    (directory / "consolidated.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 3)


def lfs_pointer_instead_of_pth(directory):
    (directory / "consolidated.safetensors").unlink()
    (directory / "consolidated.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 3)


def overlapping_tensors(directory):
    def edit(header):
        record = json.loads(header)
        names = [name for name in record if name.endswith("attention_norm.weight")]
        record[names[0]]["data_offsets"] = record[names[1]]["data_offsets"]
        return json.dumps(record).encode()

    edit_header(directory / "consolidated.safetensors", edit)


def duplicate_key(directory):
    edit_header(
        directory / "consolidated.safetensors",
        lambda header: header.replace(b'"layers.0.ffn_norm.weight"', b'"layers.1.ffn_norm.weight"'),
    )


def no_weights(directory):
    (directory / "consolidated.safetensors").unlink()


def no_config(directory):
    (directory / "params.json").unlink()


def config_is_not_json(directory):
    (directory / "params.json").write_text("dim: 24\n")


def config_is_a_list(directory):
    (directory / "params.json").write_text("[1, 2]")


def duplicate_config_field(directory):
    (directory / "params.json").write_text('{"dim": 24, "dim": 48}')


def config_of_another_size(directory):
    edit_json(directory / "params.json", n_heads=3)


def one_head_too_many(directory):
    edit_json(directory / "params.json", n_future_tokens=3)


def unknown_key(directory):
    edit_tensors(directory, lambda state: state.update({"layers.0.attention.wq.bias": np.zeros(24, np.float32)}))


def value_head_of_another_width(directory):
    edit_tensors(directory, lambda state: state.update({"v_head.weight": np.zeros((1, 23), np.float32)}))


def as_reward_model(state):
    """The names of Starling-RM: the language model as `model`, its backbone again as `transformer`."""
    for name in list(state):
        if name.startswith("model."):
            state["transformer." + name.removeprefix("model.")] = state[name].copy()
        state["model." + name] = state.pop(name)
    state["v_head.weight"] = np.zeros((1, 24), np.float32)


def backbones_that_differ(directory):
    def edit(state):
        as_reward_model(state)
        state["transformer.layers.1.mlp.up_proj.weight"][0, 0] += 1

    edit_tensors(directory, edit)


def second_backbone_too_long(directory):
    def edit(state):
        as_reward_model(state)
        state["transformer.layers.3.mlp.up_proj.weight"] = state["transformer.layers.1.mlp.up_proj.weight"]

    edit_tensors(directory, edit)


def missing_keys(directory):
    edit_tensors(directory, lambda state: [state.pop(f"layers.{i}.feed_forward.w2.weight") for i in (1, 2, 3)])


def wrong_shape(directory):
    edit_tensors(directory, lambda state: state.update({"norm.weight": np.zeros(25, np.float32)}))


def nan_weights(directory):
    edit_tensors(directory, lambda state: state["extra_heads.0.attention.wk.weight"].__setitem__((2, 3), np.nan))


def infinite_bfloat16(directory):
    def edit(state):
        for name in state:
            state[name] = state[name].astype(ml_dtypes.bfloat16)
        state["layers.2.attention.wo.weight"][1, 1] = np.inf

    edit_tensors(directory, edit)


def float64_weights(directory):
    edit_tensors(directory, lambda state: state.update({"norm.weight": np.ones(24)}))


def layers_of_different_dtypes(directory):
    edit_tensors(directory, lambda state: state.update({"layers.1.ffn_norm.weight": np.ones(24, np.float16)}))


def hostile_pickle(directory):
    write_pth(directory, pickle.dumps({"tok_embeddings.weight": Hostile()}))


def hostile_pickle_of_builtins(directory):
    write_pth(directory, b"c__builtin__\neval\n(S'1+1'\ntR.")


def pickle_of_other_things(directory):
    write_pth(directory, pickle.dumps({"model": {"a": 1}}))


def garbage_pickle(directory):
    write_pth(directory, b"\x80\x04garbage")


def shard_outside(directory):
    rewrite_index(directory, "../sharded/consolidated-00001.safetensors")


def shard_absolute(directory):
    rewrite_index(directory, "/etc/passwd")


def shard_nested(directory):
    rewrite_index(directory, "inner/part.safetensors")


def shard_missing(directory):
    next(directory.glob("*-00002-of-*.safetensors")).unlink()


def index_disagrees(directory):
    path = directory / "consolidated.safetensors.index.json"
    record = json.loads(path.read_text())
    files = sorted(set(record["weight_map"].values()))
    moved = next(name for name, file in record["weight_map"].items() if file == files[0])
    record["weight_map"][moved] = files[1]
    path.write_text(json.dumps(record))


def index_without_map(directory):
    (directory / "consolidated.safetensors.index.json").write_text("{}")


def rewrite_index(directory, file):
    path = directory / "consolidated.safetensors.index.json"
    record = json.loads(path.read_text())
    record["weight_map"]["norm.weight"] = file
    path.write_text(json.dumps(record))


def part_of_a_parallel_model(directory):
    path = directory / "consolidated.safetensors"
    path.rename(directory / "consolidated.01.pth")


def other_architecture(directory):
    edit_json(directory / "config.json", model_type="gemma")


def scaled_rope_of_another_kind(directory):
    edit_json(directory / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0})


def biases(directory):
    edit_json(directory / "config.json", attention_bias=True)


def two_layouts(directory):
    (directory / "params.json").write_text("{}")


WRONG = [
    ("meta", truncated_file, r"consolidated\.safetensors: is truncated"),
    ("meta", truncated_header, r"is not a safetensors file, or its header is truncated"),
    ("meta", trailing_bytes, r"has bytes that belong to no tensor"),
    ("meta", wrong_magic, r"is not a safetensors file"),
    ("meta", lfs_pointer_instead_of_pth, r"consolidated\.pth: is not a zip of torch\.save"),
    ("meta", overlapping_tensors, r"overlap others or leave a gap"),
    ("meta", duplicate_key, r"the key 'layers\.1\.ffn_norm\.weight' stands twice"),
    ("meta", no_weights, r"no weights found; expected one of consolidated"),
    ("meta", no_config, r"is not a model directory; expected one of params\.json"),
    ("meta", config_is_not_json, r"params\.json: is not JSON"),
    ("meta", config_is_a_list, r"params\.json: holds a JSON list; expected an object"),
    ("meta", duplicate_config_field, r"the key 'dim' stands twice"),
    ("meta", config_of_another_size, r"n_heads 3 is not a multiple of n_kv_heads 2"),
    ("meta", one_head_too_many, r"9 missing, 9 unexpected(.|\n)*missing +extra_heads\.1\.attention\.wk\.weight"),
    ("meta", unknown_key, r"unexpected layers\.0\.attention\.wq\.bias +\[24\]"),
    ("hf", value_head_of_another_width, r"v_head\.weight has the shape \[1, 23\], expected \[1, 24\]"),
    ("hf", backbones_that_differ, r"transformer\.layers\.1\.mlp\.up_proj\.weight differs from model\.model\.layers"),
    ("hf", second_backbone_too_long, r"transformer\.layers\.3\.mlp\.up_proj\.weight has no counterpart"),
    ("meta", missing_keys, r"3 missing(.|\n)*missing +layers\.\{1-3\}\.feed_forward\.w2\.weight +\[24, 43\]"),
    ("meta", wrong_shape, r"misshaped +norm\.weight +\[25\], expected \[24\]"),
    ("meta", nan_weights, r"extra_heads\.0\.attention\.wk\.weight of .* holds NaN or infinity"),
    ("meta", infinite_bfloat16, r"layers\.2\.attention\.wo\.weight of .* holds NaN or infinity"),
    ("meta", float64_weights, r"norm\.weight has the dtype F64, which is not supported"),
    ("meta", layers_of_different_dtypes, r"trunk\.ffn_norm\.scale are stored as float16, float32"),
    ("meta", hostile_pickle, r"asks for (posix|nt)\.system; .* nothing was run"),
    ("meta", hostile_pickle_of_builtins, r"asks for (__builtin__|builtins)\.eval"),
    ("meta", pickle_of_other_things, r"the entry model is a dict, not a tensor"),
    ("meta", garbage_pickle, r"data\.pkl is malformed"),
    ("meta", part_of_a_parallel_model, r"one part of a model-parallel model"),
    ("sharded", shard_outside, r"places norm\.weight in '\.\./sharded.*'; only bare names"),
    ("sharded", shard_absolute, r"places norm\.weight in '/etc/passwd'; only bare names"),
    ("sharded", shard_nested, r"places norm\.weight in 'inner/part\.safetensors'; only bare names"),
    ("sharded", shard_missing, r"-00002-of-\d+\.safetensors: no such file"),
    ("sharded", index_disagrees, r"index\.json places it in consolidated-00002"),
    ("sharded", index_without_map, r"has no weight_map"),
    ("hf", other_architecture, r"'model_type' is 'gemma'; only 'llama' is read"),
    ("hf", scaled_rope_of_another_kind, r"the rope type is 'yarn'"),
    ("hf", biases, r"'attention_bias' is True"),
    ("hf", two_layouts, r"holds params\.json \(Meta\), config\.json \(Hugging Face\), so its layout is ambiguous"),
]


def errors_of(capsys) -> str:
    """The one error, without progress lines."""
    text = capsys.readouterr().err
    assert text.count("error: ") == 1
    return text[text.index("error: ") :]


@pytest.mark.parametrize(("kind", "damage", "message"), WRONG, ids=[damage.__name__ for _, damage, _ in WRONG])
def test_wrong_input_is_one_sentence_and_leaves_nothing(model, tmp_path, capsys, monkeypatch, kind, damage, message):
    monkeypatch.chdir(tmp_path)  # Where the hostile pickle would leave its mark.
    source = model(kind)
    damage(source)
    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "flax"]) == 2
    text = errors_of(capsys)
    assert re.search(message, text), text
    assert "Traceback" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_wrong_destinations(sources, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "mine").write_text("keep")
    for name, message in [
        ("full", "exists already"),
        ("file", "exists already"),
        ("other", "was not left by a conversion"),
        ("file/below", "is not a directory"),
    ]:
        assert main(["convert", str(sources / "meta"), str(tmp_path / name), "--to", "hf"]) == 2
        assert message in errors_of(capsys)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 3
    assert {path.read_text() for path in kept} == {"keep"}


def test_no_such_source(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "no such directory" in errors_of(capsys)


@pytest.mark.parametrize(
    "arguments",
    [["--to", "gguf"], ["--to", "meta", "--dtype", "int8"], ["--to", "hf", "--max_shard_size", "many"], []],
)
def test_wrong_arguments(sources, tmp_path, arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["convert", str(sources / "meta"), str(tmp_path / "out"), *arguments])
    assert leaving.value.code == 2
    assert "expected" in (text := capsys.readouterr().err) or "choose from" in text or "required" in text


def test_a_disk_that_is_too_small(sources, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert main(["convert", str(sources / "meta"), str(tmp_path / "out"), "--to", "flax"]) == 2
    assert "make room" in errors_of(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["meta", "sharded"])
def test_through_our_tree_and_back(sources, tmp_path, kind):
    run = lambda *arguments: main([str(argument) for argument in arguments])
    assert run("convert", sources / kind, tmp_path / "flax", "--to", "flax") == 0
    shard = ["--max_shard_size", "0.02MB"] if kind == "sharded" else []
    assert run("convert", tmp_path / "flax", tmp_path / "back", "--to", "meta", *shard) == 0
    names = [path.name for path in (sources / kind).iterdir()]
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (sources / kind / name).read_bytes(), name
    assert run("verify", tmp_path / "flax") == 0
    assert run("verify", tmp_path / "back") == 0


def test_hugging_face_to_meta_and_back(sources, tmp_path):
    run = lambda *arguments: main([str(argument) for argument in arguments])
    assert run("convert", sources / "hf", tmp_path / "meta", "--to", "meta") == 0
    assert run("convert", tmp_path / "meta", tmp_path / "back", "--to", "hf") == 0
    name = "model.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (sources / "hf" / name).read_bytes()


def test_an_mtp_model_keeps_head_one_for_hugging_face(sources, tmp_path, capsys):
    assert main(["convert", str(sources / "meta"), str(tmp_path / "hf"), "--to", "hf"]) == 0
    assert "trunk and head 1 are kept, heads 2 to 2 are left out" in capsys.readouterr().out
    meta_config, meta = converters.load(sources / "meta")
    hf_config, hf = converters.load(tmp_path / "hf")
    assert (hf_config.n_layers, hf_config.n_future_tokens) == (meta_config.n_trunk_layers + 1, 1)
    np.testing.assert_array_equal(hf["heads"]["attention"]["wq"], meta["heads"]["attention"]["wq"][:1])
    np.testing.assert_array_equal(hf["trunk"]["attention"]["wq"], meta["trunk"]["attention"]["wq"])


def test_growing_heads(sources, tmp_path, capsys):
    assert main(["convert", str(sources / "hf"), str(tmp_path / "mtp"), "--to", "meta", "--grow_heads", "4"]) == 0
    _, plain = converters.load(sources / "hf")
    config, grown = converters.load(tmp_path / "mtp")
    assert (config.n_layers, config.n_future_tokens, config.n_trunk_layers) == (6, 4, 2)
    for head in range(4):
        np.testing.assert_array_equal(
            grown["heads"]["feed_forward"]["w2"][head], plain["heads"]["feed_forward"]["w2"][0]
        )
    capsys.readouterr()
    for directory, to, count, message in [
        ("meta", "flax", "4", "this one has 2 heads"),
        ("hf", "flax", "1", "at least 2"),
        ("hf", "hf", "2", "keeps one head only"),
    ]:
        arguments = ["convert", str(sources / directory), str(tmp_path / "no"), "--to", to, "--grow_heads", count]
        assert main(arguments) == 2
        assert message in errors_of(capsys)


def test_a_dry_run_prints_the_map_and_writes_nothing(sources, tmp_path, capsys):
    assert main(["convert", str(sources / "meta"), str(tmp_path / "out"), "--to", "hf", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"model\.layers\.\{0-2\}\.self_attn\.q_proj\.weight .* layers\.\{0-2\}\.attention\.wq\.weight", text
    )
    assert re.search(r"model\.layers\.3\.mlp\.up_proj\.weight .* layers\.3\.feed_forward\.w3\.weight", text)
    assert "extra_heads" not in text
    assert list(tmp_path.iterdir()) == []


def test_inspect_says_what_it_is(sources, capsys):
    assert main(["inspect", str(sources / "meta")]) == 0
    text = capsys.readouterr().out
    assert "trunk layers 3, heads 2" in text
    assert re.search(r"layers\.3\.attention\.wq\.weight +\[24, 24\] +heads\.attention\.wq", text)


def test_files_that_travel_along(sources, tmp_path):
    main(["convert", str(sources / "hf"), str(tmp_path / "out"), "--to", "flax"])
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"pieces"


@pytest.mark.parametrize("victim", ["weights", "tokenizer.model", "model_config.json"])
def test_verify_finds_a_changed_byte(sources, tmp_path, victim, capsys):
    main(["convert", str(sources / "meta"), str(tmp_path / "out"), "--to", "flax"])
    path = tmp_path / "out" / ("params.safetensors" if victim == "weights" else victim)
    data = bytearray(path.read_bytes())
    data[-40 if victim == "weights" else data.index(b"5" if victim == "model_config.json" else b"p")] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out")]) == 2
    assert re.search(r"differ|does not|tensors do not fit|expected", errors_of(capsys))


def test_verify_with_sums(model, capsys):
    source = model("meta")
    assert main(["verify", str(source)]) == 2
    assert "no digest to compare with" in errors_of(capsys)
    digest = hashlib.sha256((source / "consolidated.safetensors").read_bytes()).hexdigest()
    (source / "SHA256SUMS").write_text(f"{digest}  consolidated.safetensors\n")
    assert main(["verify", str(source)]) == 0
    capsys.readouterr()
    for line, message in [
        (f"{digest}  ../consolidated.safetensors", "expected files in the directory where it lies"),
        (f"{digest}  gone.bin", "is missing"),
        (f"{digest}  params.json", "differs from the digest"),
        ("no digest here", "line 1: expected a SHA-256 digest"),
    ]:
        (source / "SHA256SUMS").write_text(line + "\n")
        assert main(["verify", str(source)]) == 2
        assert message in errors_of(capsys)


KILLED = """
import os, signal, sys
from converters import output
from converters.__main__ import main
done = output.OutputDirectory._done
def die_after_five(self, name, digest):
    done(self, name, digest)
    if len(self.digests) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
output.OutputDirectory._done = die_after_five
main(sys.argv[1:])
"""


def kill_in_the_middle(root: Path, source: Path, destination: Path) -> Path:
    """Runs a conversion that dies by SIGKILL after five tensors; returns what it left."""
    command = [sys.executable, "-c", KILLED, "convert", str(source), str(destination), "--to", "flax"]
    assert subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert not destination.exists()
    return destination.with_name(destination.name + ".partial")


def written_tensors(monkeypatch) -> list[str]:
    from converters.output import OutputDirectory

    names, write = [], OutputDirectory.write
    monkeypatch.setattr(
        OutputDirectory, "write", lambda self, name, pieces: (names.append(name), write(self, name, pieces))
    )
    return names


def test_a_killed_conversion_continues(root, sources, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(["convert", str(sources / "meta"), str(whole), "--to", "flax"])
    partial = kill_in_the_middle(root, sources / "meta", cut)
    journal = (partial / "journal.jsonl").read_text().splitlines()
    kept = [json.loads(line)["name"] for line in journal[1:]]
    assert len(kept) == 5
    # A finished tensor that the disk lost is noticed by its digest and written again.
    start = json.loads((whole / "manifest.json").read_text())["tensors"]
    weights = bytearray((partial / "model" / "params.safetensors").read_bytes())
    header_bytes = 8 + struct.unpack("<Q", weights[:8])[0]
    begin, _ = json.loads(weights[8:header_bytes])[kept[2]]["data_offsets"]
    weights[header_bytes + begin] ^= 0xFF
    (partial / "model" / "params.safetensors").write_bytes(weights)
    names = written_tensors(monkeypatch)
    assert main(["convert", str(sources / "meta"), str(cut), "--to", "flax"]) == 0
    assert set(names) == set(start) - set(kept) | {kept[2]}
    assert not partial.exists()
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_source_does_not_continue_it(root, sources, tmp_path, monkeypatch):
    kill_in_the_middle(root, sources / "meta", tmp_path / "out")
    names = written_tensors(monkeypatch)
    assert main(["convert", str(sources / "sharded"), str(tmp_path / "out"), "--to", "flax"]) == 0
    assert len(names) == 21
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_two_conversions_to_one_place(sources, tmp_path, capsys):
    import fcntl

    (tmp_path / "out.partial").mkdir()
    with open(tmp_path / "out.partial" / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["convert", str(sources / "meta"), str(tmp_path / "out"), "--to", "flax"]) == 2
    assert "another conversion is writing it" in errors_of(capsys)


def test_a_module_run(root, sources, tmp_path):
    command = [
        sys.executable,
        "-m",
        "converters",
        "convert",
        str(sources / "hf"),
        str(tmp_path / "out"),
        "--to",
        "meta",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "100%" in done.stderr
    assert "30 tensors in Meta layout" in done.stdout
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert "exists already" in again.stderr


def test_importing_needs_no_torch(root):
    unwanted = ("torch", "orbax", "mlflow")
    code = f"import sys, converters, converters.__main__; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
