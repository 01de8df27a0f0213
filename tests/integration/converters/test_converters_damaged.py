"""Damaged, hostile and wrong models: one sentence, exit code 2, nothing left behind, nothing run."""

import json
import os
import pickle
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

META, INDEX = "consolidated.safetensors", "consolidated.safetensors.index.json"
LFS = b"version https://git-lfs.github.com/spec/v1\n" * 3
LONG = "x" * 100_000


# Each of these makes a function that damages the model in a directory.


def edited(name, edit):
    """The bytes of a file."""

    def damage(directory):
        (directory / name).write_bytes(edit((directory / name).read_bytes()))

    return damage


def text(name, content):
    return edited(name, lambda _: content.encode())


def flipped(name, position):
    """One bit of a file."""

    def edit(content):
        content = bytearray(content)
        content[position] ^= 1
        return bytes(content)

    return edited(name, edit)


def json_edit(edit):
    def changed(content):
        record = json.loads(content)
        edit(record)
        return json.dumps(record).encode()

    return changed


def fields(**changes):
    """Changed fields of params.json."""
    return edited("params.json", json_edit(lambda record: record.update(changes)))


def header(edit):
    """The JSON header of the weight file."""

    def changed(content):
        length = struct.unpack("<Q", content[:8])[0]
        new = edit(content[8 : 8 + length])
        return struct.pack("<Q", len(new)) + new + content[8 + length :]

    return edited(META, changed)


def tensors(edit):
    def damage(directory):
        path = next(directory.glob("*.safetensors"))
        state = safetensors.numpy.load_file(path)
        safetensors.numpy.save_file(edit(state) or state, path)

    return damage


def added(name, values):
    return tensors(lambda state: state | {name: values})


def value(name, index, number, dtype=np.float32):
    def edit(state):
        state |= {key: values.astype(dtype) for key, values in state.items()}
        state[name][index] = number

    return tensors(edit)


def removed(pattern):
    return lambda directory: next(directory.glob(pattern)).unlink()


def placed(file):
    """An index that has norm.weight elsewhere, for a function: in what that makes of the map."""

    def edit(record):
        files = record["weight_map"]
        files["norm.weight"] = file(files) if callable(file) else file

    return edited(INDEX, json_edit(edit))


def another_shard(files):
    return next(file for file in sorted(files.values()) if file != files["norm.weight"])


def pth(pickled, entries=(), edit=lambda content: content):
    """A consolidated.pth with this pickle instead of the weights."""

    def damage(directory):
        (directory / META).unlink()
        path = directory / "consolidated.pth"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in [("archive/data.pkl", pickled), *entries]:
                archive.writestr(name, content)
        path.write_bytes(edit(path.read_bytes()))

    return damage


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-pickle-ran",)


def state_pickle(key=b"0", count=4, name="norm.weight", shape=(4,), strides=(1,), storage="FloatStorage") -> bytes:
    """What torch.save writes for one tensor, in protocol 2."""
    numbers = lambda values: b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value
    return b"".join(
        [
            b"\x80\x02}" + text(name.encode()) + b"ctorch._utils\n_rebuild_tensor_v2\n((",
            text(b"storage") + f"ctorch\n{storage}\n".encode() + text(key) + text(b"cpu"),
            b"J" + struct.pack("<i", count) + b"tQJ\x00\x00\x00\x00" + numbers(shape) + numbers(strides),
            b"\x89ccollections\nOrderedDict\n)RtRs.",
        ]
    )


def flipped_bit_in_a_name(content: bytes) -> bytes:
    """In the central directory, where the name of the second entry is marked as UTF-8 and made invalid."""
    at = content.rindex(b"PK\x01\x02")
    broken = bytearray(content)
    broken[at + 9] |= 0x08
    broken[at + 46] = 0xFF
    return bytes(broken)


def as_reward_model(edit):
    """The names of Starling-RM: the language model as `model`, its backbone again as `transformer`."""

    def damaged(state):
        for name in list(state):
            if name.startswith("model."):
                state["transformer." + name.removeprefix("model.")] = state[name].copy()
            state["model." + name] = state.pop(name)
        state["v_head.weight"] = np.zeros((1, 24), np.float32)
        edit(state)

    return tensors(damaged)


def one_number_off(state):
    state["transformer.layers.1.mlp.up_proj.weight"][0, 0] += 1


def one_layer_more(state):
    state["transformer.layers.3.mlp.up_proj.weight"] = state["transformer.layers.1.mlp.up_proj.weight"]


def renamed(new):
    return header(json_edit(lambda record: record.update({new: record.pop("norm.weight")})))


def overlapping(record):
    first, second, *_ = (name for name in record if name.endswith("attention_norm.weight"))
    record[first]["data_offsets"] = record[second]["data_offsets"]


def manifest(**changes):
    record = {"format": "wmtp-jax manifest 1", "tensors": {}, "files": {}}
    return text("manifest.json", json.dumps(record | changes))


def storage(nbytes, name="archive/data/0"):
    return [(name, bytes(nbytes))]


CASES = {
    "meta": {
        "truncated file": (edited(META, lambda content: content[:-100]), r"consolidated\.safetensors: is truncated"),
        "truncated header": (edited(META, lambda content: content[:50]), r"its header is truncated"),
        "trailing bytes": (edited(META, lambda content: content + b"more"), r"has bytes that belong to no tensor"),
        "LFS pointer": (edited(META, lambda _: LFS), r"is not a safetensors file"),
        "LFS pointer as pth": (pth(b"", edit=lambda _: LFS), r"consolidated\.pth: is not a zip of torch\.save"),
        "overlapping tensors": (header(json_edit(overlapping)), r"overlap others or leave a gap"),
        "duplicate key": (
            header(lambda text: text.replace(b'"layers.0.ffn_norm.weight"', b'"layers.1.ffn_norm.weight"')),
            r"duplicate key 'layers\.1\.ffn_norm\.weight'",
        ),
        "a name of 100,000 characters": (
            renamed(LONG),
            r"holds a tensor named 'xxxx.*; expected at most 256 printable",
        ),
        "a name with a line end": (renamed("norm\n\ud800"), r"holds a tensor named 'norm\\n\\ud800'"),
        "no weights": (removed(META), r"no weights found; expected one of consolidated"),
        "no config": (removed("params.json"), r"is not a model directory; expected one of params\.json"),
        "config is not JSON": (text("params.json", "dim: 24\n"), r"params\.json: not valid JSON"),
        "config is a list": (text("params.json", "[1, 2]"), r"params\.json: an array; expected a JSON object"),
        "config of 100,000 brackets": (text("params.json", "[" * 100_000), r"params\.json: JSON nested too deeply"),
        "duplicate field": (text("params.json", '{"dim": 24, "dim": 48}'), r"duplicate key 'dim'"),
        "another size": (fields(n_heads=3), r"n_heads 3 is not a multiple of n_kv_heads 2"),
        "2**64 layers": (fields(n_layers=2**64), r"'n_layers' is 18446744073709551616; expected an integer below"),
        "10**9 layers": (fields(n_layers=10**9), r"there are 1000000000 layers, but \S+ holds 48 tensors"),
        "a huge multiplier": (fields(ffn_dim_multiplier=1e308), r"'ffn_dim_multiplier' is 1e\+308"),
        "a field of 100,000 characters": (fields(norm_eps=LONG), r"'norm_eps' is 'x{60,80}…; expected a positive"),
        "a field named so": (fields(**{LONG: 1}), r"the field 'x{60,80}… is unknown"),
        "one head too many": (
            fields(n_future_tokens=3),
            r"9 missing, 9 unexpected(.|\n)*missing +extra_heads\.1\.attention\.wk\.weight",
        ),
        "unknown tensor": (
            added("layers.0.attention.wq.bias", np.zeros(24, np.float32)),
            r"unexpected layers\.0\.attention\.wq\.bias +\[24\]",
        ),
        "missing tensors": (
            tensors(lambda state: {name: v for name, v in state.items() if not re.search(r"[123]\.\w+\.w2", name)}),
            r"3 missing(.|\n)*missing +layers\.\{1-3\}\.feed_forward\.w2\.weight +\[24, 43\]",
        ),
        "wrong shape": (
            added("norm.weight", np.zeros(25, np.float32)),
            r"misshaped +norm\.weight +\[25\], expected \[24\]",
        ),
        "NaN": (
            value("extra_heads.0.attention.wk.weight", (2, 3), np.nan),
            r"extra_heads\.0\.attention\.wk\.weight of .* holds NaN or infinity",
        ),
        "infinity in bfloat16": (
            value("layers.2.attention.wo.weight", (1, 1), np.inf, ml_dtypes.bfloat16),
            r"layers\.2\.attention\.wo\.weight of .* holds NaN or infinity",
        ),
        "float64": (added("norm.weight", np.ones(24)), r"norm\.weight has the dtype F64, which is not supported"),
        "layers of different dtypes": (
            added("layers.1.ffn_norm.weight", np.ones(24, np.float16)),
            r"trunk\.ffn_norm\.scale are stored as float16, float32",
        ),
        "hostile pickle": (
            pth(pickle.dumps({"tok_embeddings.weight": Hostile()})),
            r"asks for (posix|nt)\.system; .* nothing was run",
        ),
        "hostile builtins": (pth(b"c__builtin__\neval\n(S'1+1'\ntR."), r"asks for (__builtin__|builtins)\.eval"),
        "hostile long name": (pth(b"cos\n" + LONG.encode() + b"\n."), r"asks for 'os\.x{60,80}…; only"),
        "pickle of other things": (pth(pickle.dumps({"model": {"a": 1}})), r"the entry model is a dict, not a"),
        "garbage pickle": (pth(b"\x80\x04garbage"), r"data\.pkl is malformed"),
        "memo of gigabytes": (
            pth(b"\x80\x02}r" + struct.pack("<I", 400_000_000) + b"."),
            r"data\.pkl is malformed; .*'memo index 400000000 after 0 entries'\)",
        ),
        "pth without its storage": (pth(state_pickle()), r"the bytes of norm\.weight are missing"),
        "pth with a short storage": (pth(state_pickle(), storage(8)), r"norm\.weight are mis"),
        "pth beyond its storage": (
            pth(state_pickle(shape=(5,)), storage(16)),
            r"norm\.weight reaches beyond its storage",
        ),
        "pth with strides": (
            pth(state_pickle(shape=(2,), strides=(2,)), storage(16)),
            r"norm\.weight is a strided view",
        ),
        "pth with too few strides": (
            pth(state_pickle(shape=(2, 2)), storage(16)),
            r"data\.pkl is malformed; .*'a tensor without a storage or with impossible sizes'\)",
        ),
        "pth of int64": (
            pth(state_pickle(storage="LongStorage", shape=(24,), count=24), storage(192)),
            r"tensors do not fit",
        ),
        "big-endian pth": (pth(state_pickle(), [("archive/byteorder", b"big")]), r"big-endian numbers are not rea"),
        "flipped bit in a zip entry's name": (
            pth(state_pickle(), storage(16), flipped_bit_in_a_name),
            r"is not a zip of torch\.save .*, or is truncated",
        ),
        "duplicate zip entry": (
            pth(state_pickle(), [*storage(16), *storage(0, "archive/data/1")], lambda c: c.replace(b"a/1", b"a/0")),
            r"has a duplicate entry in its zip",
        ),
        "part of a parallel model": (
            lambda directory: (directory / META).rename(directory / "consolidated.01.pth"),
            r"one part of a model-parallel model",
        ),
    },
    "flax": {
        "10**9 layers": (
            edited("model_config.json", lambda content: content.replace(b'"n_layers": 5', b'"n_layers": 1000000000')),
            r"misshaped +trunk\.attention\.wq +\[3, 24, 6, 4\], expected \[999999998, 24, 6, 4\]",
        ),
        "flipped bit in what is written unchanged": (
            flipped("params.safetensors", 5000),
            r"the tensor tok_embeddings\.embedding differs from its digest in manifest\.json",
        ),
        "flipped bit in weights with a manifest": (
            flipped("params.safetensors", -40),
            r"the tensor output\.kernel differs from its digest in manifest\.json",
        ),
        "flipped bit in a config with a manifest": (
            flipped("model_config.json", 40),
            r"model_config\.json: (differs from its digest in manifest|not valid JSON)|expected",
        ),
        "manifest of other tensors": (manifest(tensors={"a": {}}), r"lists other tensors than the weights hold"),
        "manifest that points outside": (
            manifest(files={"../../etc/passwd": "0"}),
            r"names '\.\./\.\./etc/passwd'; expected files in the directory",
        ),
    },
    "hf": {
        "value head of another width": (
            added("v_head.weight", np.zeros((1, 23), np.float32)),
            r"v_head\.weight has the shape \[1, 23\], expected \[1, 24\]",
        ),
        "backbones that differ": (
            as_reward_model(one_number_off),
            r"transformer\.layers\.1\.mlp\.up_proj\.weight differs from model\.model\.layers",
        ),
        "second backbone too long": (
            as_reward_model(one_layer_more),
            r"transformer\.layers\.3\.mlp\.up_proj\.weight has no counterpart",
        ),
        "two layouts": (
            lambda directory: (directory / "params.json").write_text("{}"),
            r"holds params\.json \(Meta\), config\.json \(Hugging Face\), so its layout is ambiguous",
        ),
    },
    "sharded": {
        "shard outside": (placed("../sharded/a.safetensors"), r"norm\.weight in '\.\./sharded.*only bare"),
        "shard absolute": (placed("/etc/passwd"), r"places norm\.weight in '/etc/passwd'; only bare names"),
        "shard nested": (placed("inner/part.safetensors"), r"in 'inner/part\.safetensors'; only bare names"),
        "shard of 100,000 characters": (placed("/" + LONG), r"places norm\.weight in '/x{60,80}…; only bare"),
        "shard missing": (removed("*-00002-of-*.safetensors"), r"-00002-of-\d+\.safetensors: no such file"),
        "index disagrees": (placed(another_shard), r"index\.json places it in consolidated-0000"),
        "index without a map": (text(INDEX, "{}"), r"has no weight_map"),
    },
}


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases])
def test_wrong_input_is_one_sentence_and_leaves_nothing(model, run, tmp_path, monkeypatch, kind, case):
    damage, message = CASES[kind][case]
    monkeypatch.chdir(tmp_path)  # Where the hostile pickle would leave its mark.
    source = model(kind)
    damage(source)
    code, _, error = run("convert", source, tmp_path / "out", "--to", "meta" if kind == "flax" else "flax")
    assert code == 2
    assert re.search(message, error), error
    assert len(error) < 4000
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_small_pth_takes_little_memory(run, model):
    """Memory is bounded by the file: the memo index of "memo of gigabytes" asked for 6 GB."""
    import resource

    source = model("meta")
    CASES["meta"]["memo of gigabytes"][0](source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run("inspect", source)[0] == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_what_is_no_model_directory(run, sources, tmp_path):
    for path, message in [
        (tmp_path / "nowhere", "no such directory; expected one that holds a model"),
        (sources / "meta" / META, "is a file; expected the directory that holds a model's config and weights"),
    ]:
        code, _, error = run("inspect", path)
        assert code == 2
        assert f"{path}: {message}" in error
