"""Meta -> params -> Meta and Hugging Face -> params -> Hugging Face, bit for bit, from files written by others."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from random_models import random_state, small, write_model

import converters
from converters.tensor import parse_dtype
from wmtp_jax.model import init_params
from wmtp_jax.tree import flatten_tree

LOAD = {"meta": converters.load_meta, "hf": converters.load_hf}
SAVE = {"meta": converters.save_meta, "hf": converters.save_hf}


def read_all(directory) -> dict[str, np.ndarray]:
    tensors = {}
    for path in directory.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(path)
    return tensors


def assert_same_bits(found: dict, expected: dict):
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        bits = {2: np.uint16, 4: np.uint32}[values.dtype.itemsize]
        np.testing.assert_array_equal(np.asarray(found[name]).view(bits), np.asarray(values).view(bits), err_msg=name)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("single", "float32"), ("single", "bfloat16"), ("sharded", "float16")]
    + [("torch", dtype) for dtype in ("float32", "float16", "bfloat16")],
)
@pytest.mark.parametrize(
    ("layout", "heads", "output"),
    [("meta", 1, "untied"), ("meta", 4, "untied"), ("meta", 4, "copy"), ("hf", 1, "untied"), ("hf", 1, "absent")],
)
def test_there_and_back(tmp_path, layout, heads, output, dtype, kind):
    config = small(n_future_tokens=heads, tie_embeddings=output == "absent")
    state = random_state(layout, config, dtype, output)
    read_config, params = LOAD[layout](write_model(tmp_path / "in", layout, config, state, kind))
    assert read_config.n_trunk_layers == 5 - heads
    assert read_config.tie_embeddings == (output != "untied")
    assert all(leaf.dtype == parse_dtype(dtype) for leaf in jax.tree.leaves(params))
    out = tmp_path / "out"
    SAVE[layout](out, read_config, params, max_shard_bytes=20000 if kind == "sharded" else 10**9)
    assert_same_bits(read_all(out), state)
    assert (len(list(out.glob("*.safetensors"))) > 1) == (kind == "sharded")
    if layout == "hf":
        written = json.loads((out / "config.json").read_text())
        assert (written["torch_dtype"], written["tie_word_embeddings"]) == (dtype, output == "absent")
    again, same = converters.load(out)
    assert again.ffn_dim == config.ffn_dim
    assert_same_bits(flatten_tree(same), flatten_tree(params))


def test_our_tree(tmp_path):
    config = small(n_future_tokens=4)
    params = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), init_params(config))
    converters.save_tree(tmp_path / "out", config, params)
    again, same = converters.load_tree(tmp_path / "out")
    assert again == config
    assert_same_bits(flatten_tree(same), flatten_tree(params))


def test_every_index_of_a_meta_model(tmp_path):
    config = small(n_future_tokens=2)
    state = random_state("meta", config)
    _, params = converters.load_meta(write_model(tmp_path / "in", "meta", config, state))
    Q, block = config.head_dim, params["trunk"]
    for h, q, d in [(0, 0, 0), (5, 3, 23), (2, 1, 7)]:
        row = h * Q + q
        assert block["attention"]["wq"][1, d, h, q] == state["layers.1.attention.wq.weight"][row, d]
        assert block["attention"]["wo"][2, h, q, d] == state["layers.2.attention.wo.weight"][d, row]
        assert block["attention"]["wk"][0, d, h % 2, q] == state["layers.0.attention.wk.weight"][h % 2 * Q + q, d]
    assert block["feed_forward"]["w2"][1, 40, 9] == state["layers.1.feed_forward.w2.weight"][9, 40]
    head_1, head_2 = params["heads"]["feed_forward"]["w1"]
    np.testing.assert_array_equal(head_1, state["layers.3.feed_forward.w1.weight"].T)
    np.testing.assert_array_equal(head_2, state["extra_heads.0.feed_forward.w1.weight"].T)
    np.testing.assert_array_equal(params["output"]["kernel"], state["output.weight"].T)
    np.testing.assert_array_equal(params["tok_embeddings"]["embedding"], state["tok_embeddings.weight"])


def test_query_and_key_rows_of_hugging_face_are_interleaved(tmp_path):
    config = small()
    state = random_state("hf", config)
    _, params = converters.load_hf(write_model(tmp_path / "in", "hf", config, state))
    half = config.head_dim // 2
    for name, key, heads in (("wq", "q_proj", 6), ("wk", "k_proj", 2)):
        stored = state[f"model.layers.2.self_attn.{key}.weight"].reshape(heads, 2, half, config.dim)
        ours = np.moveaxis(params["trunk"]["attention"][name][2], 0, -1)
        np.testing.assert_array_equal(ours[:, 0::2], stored[:, 0])
        np.testing.assert_array_equal(ours[:, 1::2], stored[:, 1])


def test_the_real_model_is_the_same_tree_from_both_layouts_and_goes_back_out_as_it_came(tmp_path, shared_data):
    source, trees = shared_data / "stories260k", {}
    for layout, name in (("meta", "meta_model"), ("hf", "hf_model")):
        config, trees[layout] = LOAD[layout](source)
        assert config.tie_embeddings
        assert config.ffn_dim == 172
        SAVE[layout](tmp_path / name, config, trees[layout])
        assert_same_bits(read_all(tmp_path / name), safetensors.numpy.load_file(source / f"{name}.safetensors"))
    assert_same_bits(flatten_tree(trees["meta"]), flatten_tree(trees["hf"]))


def test_dtype_on_request(tmp_path):
    config = small()
    state = random_state("meta", config)
    source = write_model(tmp_path / "in", "meta", config, state)
    _, params = converters.load_meta(source, dtype="bfloat16")
    np.testing.assert_array_equal(params["norm"]["scale"], state["norm.weight"].astype(parse_dtype("bfloat16")))
    converters.save_meta(tmp_path / "out", config, converters.load_meta(source)[1], dtype="float16")
    assert_same_bits(read_all(tmp_path / "out"), {name: v.astype(np.float16) for name, v in state.items()})


def test_values_beyond_float16_are_refused(tmp_path):
    state = random_state("meta", small())
    state["norm.weight"][3] = 1e6
    source = write_model(tmp_path / "in", "meta", small(), state)
    with pytest.raises(converters.ConverterError, match=r"norm\.scale has values beyond the range of float16"):
        converters.load_meta(source, dtype="float16")


def test_params_that_do_not_fit_are_refused_and_nothing_stays(tmp_path):
    params = init_params(small())
    with pytest.raises(converters.ConverterError, match=r"missing +output\.kernel"):
        converters.save_meta(tmp_path / "a", small(), {k: v for k, v in params.items() if k != "output"})
    with pytest.raises(converters.ConverterError, match=r"misshaped +trunk\.attention\.wk .*\[4, 24, 2, 4\], expected"):
        converters.save_meta(tmp_path / "b", small(n_kv_heads=3), params)
    params["heads"]["feed_forward"]["w2"] = params["heads"]["feed_forward"]["w2"].at[0, 3, 5].set(np.nan)
    with pytest.raises(converters.ConverterError, match=r"heads\.feed_forward\.w2\[0\] of the params holds NaN"):
        converters.save_hf(tmp_path / "c", small(), params)
    assert list(tmp_path.iterdir()) == []
