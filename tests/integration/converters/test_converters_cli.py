"""python -m converters from a user's seat: what works, and which arguments are refused."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

import converters


@pytest.mark.parametrize(("kind", "shard"), [("meta", []), ("sharded", ["--max_shard_size", "0.02MB"])])
def test_through_our_tree_and_back(sources, tmp_path, run, kind, shard):
    assert run("convert", sources / kind, tmp_path / "flax", "--to", "flax")[0] == 0
    assert run("convert", tmp_path / "flax", tmp_path / "back", "--to", "meta", *shard)[0] == 0
    for path in (sources / kind).iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes(), path.name
    assert (tmp_path / "flax" / "tokenizer.model").read_bytes() == b"pieces"
    assert run("verify", tmp_path / "flax")[0] == 0
    assert run("verify", tmp_path / "back")[0] == 0


def test_hugging_face_to_meta_and_back(sources, tmp_path, run):
    assert run("convert", sources / "hf", tmp_path / "meta", "--to", "meta")[0] == 0
    assert run("convert", tmp_path / "meta", tmp_path / "back", "--to", "hf")[0] == 0
    weights = [directory / "model.safetensors" for directory in (tmp_path / "back", sources / "hf")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_mtp_model_keeps_head_one_for_hugging_face(sources, tmp_path, run):
    code, text, _ = run("convert", sources / "meta", tmp_path / "hf", "--to", "hf")
    assert code == 0
    assert "trunk and head 1 are kept, heads 2 to 2 are left out" in text
    meta_config, meta = converters.load(sources / "meta")
    hf_config, hf = converters.load(tmp_path / "hf")
    assert (hf_config.n_layers, hf_config.n_future_tokens) == (meta_config.n_trunk_layers + 1, 1)
    np.testing.assert_array_equal(hf["heads"]["attention"]["wq"], meta["heads"]["attention"]["wq"][:1])
    np.testing.assert_array_equal(hf["trunk"]["attention"]["wq"], meta["trunk"]["attention"]["wq"])


def test_growing_heads(sources, tmp_path, run):
    assert run("convert", sources / "hf", tmp_path / "mtp", "--to", "meta", "--grow_heads", "4")[0] == 0
    _, plain = converters.load(sources / "hf")
    config, grown = converters.load(tmp_path / "mtp")
    assert (config.n_layers, config.n_future_tokens, config.n_trunk_layers) == (6, 4, 2)
    for head_w2 in grown["heads"]["feed_forward"]["w2"]:
        np.testing.assert_array_equal(head_w2, plain["heads"]["feed_forward"]["w2"][0])


def test_a_dry_run_prints_the_map_and_writes_nothing(sources, tmp_path, run):
    code, text, _ = run("convert", sources / "meta", tmp_path / "out", "--to", "hf", "--dry_run")
    assert code == 0
    assert re.search(r"model\.layers\.\{0-2\}\.self_attn\.q_proj\.weight .* layers\.\{0-2\}\.attention\.wq\.we", text)
    assert re.search(r"model\.layers\.3\.mlp\.up_proj\.weight .* layers\.3\.feed_forward\.w3\.weight", text)
    assert "extra_heads" not in text
    assert list(tmp_path.iterdir()) == []


def test_inspect_says_what_it_is(sources, run):
    code, text, _ = run("inspect", sources / "meta")
    assert code == 0
    assert "trunk layers 3, heads 2" in text
    assert re.search(r"layers\.3\.attention\.wq\.weight +\[24, 24\] +heads\.attention\.wq +transposed", text)
    assert re.search(r"q_proj\.weight .* rope permuted", run("inspect", sources / "hf")[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["meta", "out", "--to", "gguf"], "invalid choice: 'gguf'"),
        (["meta", "out", "--to", "meta", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["meta", "out", "--to", "hf", "--max_shard_size", "many"], "'many' is not a size; expected a number with KB"),
        (["meta", "out"], "required: --to"),
        (["meta", "out", "--to", "flax", "--grow_heads", "4"], "this one has 2 heads"),
        (["hf", "out", "--to", "flax", "--grow_heads", "1"], "'1' is not a whole number from 2"),
        (["hf", "out", "--to", "hf", "--grow_heads", "2"], "keeps one head only"),
        (["meta", "full", "--to", "hf"], "exists already"),
        (["meta", "full", "--to", "hf", "--dry_run"], "exists already"),
        (["meta", "file", "--to", "hf"], "exists already"),
        (["meta", "other", "--to", "hf"], "other.partial: exists and was not left by a conversion"),
        (["meta", "file/below", "--to", "hf"], "is not a directory"),
    ],
)
def test_wrong_arguments(sources, tmp_path, run, arguments, message):
    for kept in ("full/mine", "other.partial/mine", "file"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).write_text("keep")
    before = sorted(tmp_path.rglob("*"))
    source, destination, *options = arguments
    code, _, error = run("convert", sources / source, tmp_path / destination, *options)
    assert code == 2
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before
    assert {path.read_text() for path in before if path.is_file()} == {"keep"}


@pytest.mark.parametrize(
    ("victim", "old"), [("params.safetensors", None), ("tokenizer.model", b"p"), ("model_config.json", b"5")]
)
def test_verify_finds_a_changed_byte(sources, tmp_path, run, victim, old):
    run("convert", sources / "meta", tmp_path / "out", "--to", "flax")
    path = tmp_path / "out" / victim
    data = bytearray(path.read_bytes())
    data[data.index(old) if old else -40] ^= 1
    path.write_bytes(data)
    code, _, error = run("verify", tmp_path / "out")
    assert code == 2
    assert re.search(r"differ|does not|tensors do not fit|expected", error)


def test_verify_with_sums(model, run):
    source = model("meta")
    code, _, error = run("verify", source)
    assert code == 2
    assert "no digest to compare with" in error
    digest = hashlib.sha256((source / "consolidated.safetensors").read_bytes()).hexdigest()
    (source / "SHA256SUMS").write_text(f"{digest}  consolidated.safetensors\n")
    assert run("verify", source)[0] == 0
    for line, message in [
        (f"{digest}  ../consolidated.safetensors", "expected files in the directory of the list"),
        (f"{digest}  gone.bin", "is missing"),
        (f"{digest}  params.json", "differs from its digest"),
        ("no digest here", "line 1: expected a SHA-256 digest"),
        (f"{digest}  a\n{digest}  a", "line 2: duplicate file name 'a'"),
    ]:
        (source / "SHA256SUMS").write_text(line + "\n")
        code, _, error = run("verify", source)
        assert code == 2
        assert message in error


def test_what_a_conversion_says(sources, tmp_path, run):
    command = ["convert", sources / "hf", tmp_path / "out", "--to", "meta"]
    code, out, progress = run(*command)
    assert code == 0
    assert "hf -> meta 0/0 MB" in progress
    assert "30 tensors in Meta layout" in out
    code, _, error = run(*command)
    assert code == 2
    assert "exists already" in error


def test_help_ends_with_two_examples(run):
    for name in ("inspect", "convert", "verify"):
        code, text, _ = run(name, "--help")
        assert code == 0
        examples = text[text.index("examples:") :].splitlines()[1:]
        assert len(examples) == 2
        assert all(line.startswith(f"  python -m converters {name} ") for line in examples)


def test_converting_needs_neither_jax_nor_torch(root, sources, tmp_path):
    unwanted = ("jax", "torch", "orbax", "mlflow")
    code = (
        "import sys, converters.__main__; converters.__main__.main(sys.argv[1:]); "
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "convert", sources / "hf", tmp_path / "out", "--to", "flax"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
