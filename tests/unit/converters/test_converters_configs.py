"""params.json and config.json: what is inferred, what is refused, what goes back out."""

import json

import pytest
from random_models import random_state, small, write_model

import converters
from converters.hugging_face import HUGGING_FACE
from converters.meta import META
from wmtp_jax.model import ModelConfig, RopeScaling, derived_ffn_dim


def read_meta(record, shapes=None):
    return META.read_config(record, "params.json", shapes or {})


def read_hf(record):
    return HUGGING_FACE.read_config(record, "config.json", {})[0]


META_7B = {
    "dim": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "multiple_of": 256,
    "ffn_dim_multiplier": 1.0,
    "norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 32000,
    "n_future_tokens": 4,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 100,
}


def test_the_published_params_json():
    config, tied = read_meta(META_7B)
    assert (config.ffn_dim, config.n_trunk_layers, config.n_future_tokens, tied) == (11008, 28, 4, None)
    assert META.write_config(config, META_7B, "float32", False) == META_7B


def test_what_older_files_leave_out():
    record = {"dim": 64, "n_layers": 4, "n_heads": 8, "vocab_size": -1, "norm_eps": 1e-6}
    shapes = {"tok_embeddings.weight": (77, 64), "layers.0.feed_forward.w1.weight": (172, 64)}
    config, _ = read_meta(record, shapes)
    assert (config.n_kv_heads, config.vocab_size, config.ffn_dim, config.n_future_tokens) == (8, 77, 172, 1)
    assert config.rope_theta == 1e4


@pytest.mark.parametrize("ffn_dim", [43, 100, 172, 10007, 11008])
@pytest.mark.parametrize("dim", [24, 64, 4096])
def test_any_width_is_written_in_the_terms_of_metas_formula(dim, ffn_dim):
    config = ModelConfig(dim=dim, n_layers=4, n_heads=4, vocab_size=9, ffn_dim=ffn_dim)
    record = json.loads(json.dumps(META.write_config(config, {}, "float32", False)))
    assert derived_ffn_dim(dim, record["multiple_of"], record.get("ffn_dim_multiplier")) == ffn_dim


def test_a_width_that_the_formula_does_not_give_is_refused():
    shapes = {"layers.0.feed_forward.w1.weight": (11000, 4096)}
    with pytest.raises(converters.ConverterError, match=r"width of 11008, but .*w1\.weight has 11000 rows"):
        read_meta(META_7B, shapes)


def test_llama_3_scaling_in_metas_words_and_back():
    scaled = read_meta(META_7B | {"use_scaled_rope": True, "rope_scaling_factor": 32.0})[0]
    assert scaled.rope_scaling == RopeScaling(factor=32.0)
    assert read_meta(META_7B | {"use_scaled_rope": False})[0].rope_scaling is None
    odd = ModelConfig(dim=64, n_layers=4, n_heads=4, vocab_size=9, rope_scaling=RopeScaling(4.0, 2.0, 6.0, 512))
    assert read_meta(META.write_config(odd, {}, "float32", False))[0].rope_scaling == odd.rope_scaling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": "4096"}, "'dim' is '4096'; expected an integer"),
        ({"dim": None}, "'dim' is missing"),
        ({"n_layers": 4}, "n_layers 4 counts trunk and heads"),
        ({"n_heads": True}, "'n_heads' is True"),
        ({"norm_eps": -1.0}, "'norm_eps' is -1.0; expected a positive number"),
        ({"moe_args": {}}, "'moe_args' is unknown"),
        ({"tie_embeddings": 1}, "'tie_embeddings' is 1; expected true or false"),
        ({"rope_scaling": {"factr": 2.0}}, "'factr' is unknown"),
    ],
)
def test_wrong_params_json(change, message):
    with pytest.raises(converters.ConverterError, match=message):
        read_meta(META_7B | change)


def test_hugging_face_defaults():
    config = read_hf(LLAMA)
    assert (config.n_kv_heads, config.rope_theta, config.norm_eps, config.n_future_tokens) == (8, 1e4, 1e-6, 1)
    assert config.rope_scaling is None


SCALING = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5, "rope_scaling": SCALING},
        {"rope_parameters": SCALING | {"rope_theta": 5e5}},
    ],
)
def test_llama_3_scaling_in_both_spellings_of_transformers(spelling):
    config = read_hf(LLAMA | spelling)
    assert config.rope_theta == 5e5
    assert config.rope_scaling == RopeScaling(factor=32.0)
    written = HUGGING_FACE.write_config(config, LLAMA | spelling, "float32", False)
    assert ("rope_parameters" in written) == ("rope_parameters" in spelling)
    assert read_hf(written).rope_scaling == config.rope_scaling
    assert read_hf(written).rope_theta == 5e5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "'model_type' is 'mistral'; only 'llama' is read"),
        ({"model_type": None}, "'model_type' is None"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
        ({"attention_bias": True}, "'attention_bias' is True"),
        ({"mlp_bias": True}, "'mlp_bias' is True"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type is 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "'low_freq_factor' is missing"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_key_value_heads": 3}, "n_heads 8 is not a multiple of n_kv_heads 3"),
        ({"intermediate_size": None}, "'intermediate_size' is missing"),
    ],
)
def test_wrong_config_json(change, message):
    with pytest.raises(converters.ConverterError, match=message):
        read_hf(LLAMA | change)


@pytest.mark.parametrize(
    ("words", "output", "tied"),
    [({}, "absent", True), ({}, "copy", True), ({"tie_embeddings": False}, "copy", False), ({}, "untied", False)],
)
def test_embeddings_tied_by_absence_by_equality_or_by_word(tmp_path, words, output, tied):
    source = write_model(tmp_path / "in", "meta", small(), random_state("meta", small(), output=output), **words)
    read, params = converters.load_meta(source)
    assert read.tie_embeddings is tied
    assert ("output" in params) is not tied
    # With the source named, the copy is written exactly if the source had one.
    converters.save_meta(tmp_path / "out", read, params, source=source)
    assert converters.load_meta(tmp_path / "out")[0].tie_embeddings is tied
    sizes = [(tmp_path / where / "consolidated.safetensors").stat().st_size for where in ("in", "out")]
    assert abs(sizes[0] - sizes[1]) < 300  # The same tensors; headers differ by a few bytes.


def test_tied_in_words_but_not_in_numbers_is_refused(tmp_path):
    source = write_model(tmp_path / "m", "hf", small(tie_embeddings=True), random_state("hf", small()))
    with pytest.raises(converters.ConverterError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        converters.load_hf(source)


def test_words_that_only_hugging_face_knows_come_back(tmp_path):
    words = {"eos_token_id": 7, "custom": {"a": 1}}
    source = write_model(tmp_path / "in", "hf", small(), random_state("hf", small()), **words)
    converters.save_hf(tmp_path / "out", *converters.load_hf(source), source=source)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {name: written[name] for name in words} == words
