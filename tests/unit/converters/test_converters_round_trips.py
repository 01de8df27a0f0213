"""Meta -> params -> Meta and Hugging Face -> params -> Hugging Face, bit for bit, from files written by others."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import converters
from converters.tensor import parse_dtype
from wmtp_jax.model import init_params
from wmtp_jax.tree import flatten_tree

BITS = {2: np.uint16, 4: np.uint32}


def read_all(directory) -> dict[str, np.ndarray]:
    tensors = {}
    for path in directory.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(path)
    return tensors


def assert_same_bits(found: dict, expected: dict):
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        bits = BITS[values.dtype.itemsize]
        np.testing.assert_array_equal(np.asarray(found[name]).view(bits), np.asarray(values).view(bits), err_msg=name)


@pytest.mark.parametrize("kind", ["single", "sharded", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("heads", "output"), [(1, "untied"), (4, "untied"), (4, "copy")])
def test_meta(tmp_path, small, meta_state, params_json, write_model, kind, dtype, heads, output):
    config = small(n_future_tokens=heads)
    state = meta_state(config, dtype, output=output)
    source = write_model(tmp_path / "in", "params.json", params_json(config), state, kind)
    read_config, params = converters.load_meta(source)
    assert read_config.n_trunk_layers == 5 - heads
    assert read_config.tie_embeddings == (output == "copy")
    assert all(leaf.dtype == parse_dtype(dtype) for leaf in jax.tree.leaves(params))
    converters.save_meta(tmp_path / "out", read_config, params, max_shard_bytes=20000 if kind == "sharded" else 10**9)
    assert_same_bits(read_all(tmp_path / "out"), state)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (kind == "sharded")
    again, same = converters.load(tmp_path / "out")
    assert again.ffn_dim == config.ffn_dim
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(same), strict=True))


@pytest.mark.parametrize("kind", ["single", "sharded", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_hugging_face(tmp_path, small, hf_state, config_json, write_model, kind, dtype, tied):
    config = small(tie_embeddings=tied)
    state = hf_state(config, dtype, output="tied" if tied else "untied")
    source = write_model(tmp_path / "in", "config.json", config_json(config), state, kind)
    read_config, params = converters.load_hf(source)
    converters.save_hf(tmp_path / "out", read_config, params, max_shard_bytes=20000 if kind == "sharded" else 10**9)
    assert_same_bits(read_all(tmp_path / "out"), state)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["torch_dtype"] == dtype
    assert written["tie_word_embeddings"] is tied


def test_our_tree(tmp_path, small, meta_state, params_json, write_model):
    config = small(n_future_tokens=4)
    source = write_model(tmp_path / "in", "params.json", params_json(config), meta_state(config, "bfloat16"))
    read_config, params = converters.load(source)
    converters.save_tree(tmp_path / "out", read_config, params)
    again, same = converters.load_tree(tmp_path / "out")
    assert again == read_config
    assert_same_bits(flatten_tree(same), flatten_tree(params))


def test_every_index_of_a_meta_model(tmp_path, small, meta_state, params_json, write_model):
    config = small(n_future_tokens=2)
    state = meta_state(config)
    _, params = converters.load_meta(write_model(tmp_path / "in", "params.json", params_json(config), state))
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


def test_query_and_key_rows_of_hugging_face_are_interleaved(tmp_path, small, hf_state, config_json, write_model):
    config = small()
    state = hf_state(config)
    _, params = converters.load_hf(write_model(tmp_path / "in", "config.json", config_json(config), state))
    half = config.head_dim // 2
    for name, key, heads in (("wq", "q_proj", 6), ("wk", "k_proj", 2)):
        stored = state[f"model.layers.2.self_attn.{key}.weight"]
        for h in range(heads):
            for j in range(half):
                ours = params["trunk"]["attention"][name][2, :, h]
                np.testing.assert_array_equal(ours[:, 2 * j], stored[h * 2 * half + j])
                np.testing.assert_array_equal(ours[:, 2 * j + 1], stored[h * 2 * half + half + j])


def test_the_real_model_is_the_same_tree_from_both_layouts(shared_data):
    meta_config, from_meta = converters.load_meta(shared_data / "stories260k")
    hf_config, from_hf = converters.load_hf(shared_data / "stories260k")
    assert meta_config.tie_embeddings
    assert hf_config.tie_embeddings
    assert (meta_config.ffn_dim, hf_config.ffn_dim) == (172, 172)
    assert_same_bits(flatten_tree(from_meta), flatten_tree(from_hf))


def test_the_real_model_goes_back_out_as_it_came(tmp_path, shared_data):
    source = shared_data / "stories260k"
    for load, save, name in (
        (converters.load_meta, converters.save_meta, "meta_model"),
        (converters.load_hf, converters.save_hf, "hf_model"),
    ):
        save(tmp_path / name, *load(source))
        expected = safetensors.numpy.load_file(source / f"{name}.safetensors")
        assert_same_bits(read_all(tmp_path / name), expected)


def test_dtype_on_request(tmp_path, small, meta_state, params_json, write_model):
    config = small()
    state = meta_state(config)
    source = write_model(tmp_path / "in", "params.json", params_json(config), state)
    _, params = converters.load_meta(source, dtype="bfloat16")
    expected = state["norm.weight"].astype(parse_dtype("bfloat16"))
    np.testing.assert_array_equal(params["norm"]["scale"], expected)
    converters.save_meta(tmp_path / "out", config, converters.load_meta(source)[1], dtype="float16")
    assert_same_bits(read_all(tmp_path / "out"), {name: v.astype(np.float16) for name, v in state.items()})


def test_values_beyond_float16_are_refused(tmp_path, small, meta_state, params_json, write_model):
    config = small()
    state = meta_state(config)
    state["norm.weight"][3] = 1e6
    source = write_model(tmp_path / "in", "params.json", params_json(config), state)
    with pytest.raises(converters.ConverterError, match=r"norm\.scale has values beyond the range of float16"):
        converters.load_meta(source, dtype="float16")


def test_params_that_do_not_fit_are_a_table(tmp_path, small):
    params = init_params(small())
    with pytest.raises(converters.ConverterError, match=r"missing +output\.kernel"):
        converters.save_meta(tmp_path / "a", small(), {k: v for k, v in params.items() if k != "output"})
    with pytest.raises(converters.ConverterError, match=r"misshaped +trunk\.attention\.wk .*\[4, 24, 2, 4\], expected"):
        converters.save_meta(tmp_path / "b", small(n_kv_heads=3), params)
    assert list(tmp_path.iterdir()) == []


def test_nan_params_are_refused_and_nothing_stays(tmp_path, small):
    params = init_params(small())
    params["heads"]["feed_forward"]["w2"] = params["heads"]["feed_forward"]["w2"].at[0, 3, 5].set(np.nan)
    with pytest.raises(converters.ConverterError, match=r"heads\.feed_forward\.w2\[0\] of the params holds NaN"):
        converters.save_hf(tmp_path / "out", small(), params)
    assert list(tmp_path.iterdir()) == []
