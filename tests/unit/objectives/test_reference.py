"""Losses of a reference model: the right ones, in the right place, and never those of another model or other data."""

import dataclasses
import functools
import itertools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import converters
from wmtp_jax.data import Example, Examples, evaluation_batches, from_examples, load_tokenizer, make_batches
from wmtp_jax.model import ModelConfig, MTPTransformer, param_shapes
from wmtp_jax.objectives.objective import ObjectiveError
from wmtp_jax.objectives.rho1 import load_reference, reference_scores

VOCAB = 1024
PLAIN = ModelConfig(dim=16, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=VOCAB, ffn_dim=24, max_seq_len=64)
MTP = dataclasses.replace(PLAIN, n_layers=5, n_future_tokens=3, n_kv_heads=4)
SAVE = {"hf": converters.save_hf, "meta": converters.save_meta, "flax": converters.save_tree}


@pytest.fixture(scope="module")
def tokenizer(root):
    return load_tokenizer(root / "storage/models_v2/micro-mtp/tokenizer.model")


@pytest.fixture(scope="module")
def documents() -> list[Example]:
    """Eleven documents of random tokens, no two alike; not a multiple of the batch. Three lengths: few compilations."""
    rng = np.random.default_rng(0)
    lengths = [2, 40, 9, 9, 9, 40, 2, 9, 40, 2, 9]
    return [
        Example(rng.integers(1, VOCAB, n, np.int32), np.arange(n) >= 1 + n // 3, bool(i % 2), f"task_{i}")
        for i, n in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def examples(documents) -> Examples:
    """All of them, as one data set."""
    return from_examples(documents)


def random_params(config, seed) -> dict:
    """Drawn by numpy (nothing to compile), wide enough that the distributions are far from uniform."""
    rng = np.random.default_rng(seed)
    draw = lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    return jax.tree.map(draw, param_shapes(config))


@pytest.fixture
def save(tmp_path):
    """Writes a random model."""

    def write(config=PLAIN, layout="hf", dtype="float32", seed=0, name="reference"):
        SAVE[layout](tmp_path / name, config, random_params(config, seed), dtype=dtype)
        return tmp_path / name

    return write


@pytest.fixture
def score(examples, tokenizer, cache):
    """`reference_scores` with everything given but what a test is about."""

    def run(directory, examples=examples, **changes):
        settings = {"cache": cache, "batch_size": 4, "buckets": (16, 48), "chunk_length": 7, "dtype": "float32"}
        return reference_scores(examples, directory, tokenizer, **(settings | changes))

    return run


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "reference-train.safetensors"


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, params, tokens_BxS, segment_ids_BxS):
    return model.apply({"params": params}, tokens_BxS, segment_ids_BxS)[:, :, 0]


def dense_nll(model, params, tokens_BxS, segment_ids_BxS=None) -> np.ndarray:
    """-log softmax of all logits of head 1, in float64, at the token after each position; 0 at the first."""
    logits_BxSxV = np.asarray(_logits(model, params, tokens_BxS, segment_ids_BxS), np.float64)
    log_z_BxS = np.log(np.exp(logits_BxSxV).sum(-1))
    picked_BxT = np.take_along_axis(logits_BxSxV[:, :-1], np.asarray(tokens_BxS)[:, 1:, None], -1)[..., 0]
    return np.pad(log_z_BxS[:, :-1] - picked_BxT, ((0, 0), (1, 0)))


def live(directory, examples, dtype=None) -> np.ndarray:
    """Every document alone, without padding, through the whole model as the converters read it."""
    config, params = converters.load(directory, dtype=dtype)
    model = MTPTransformer(config)
    rows = [examples.tokens(i) for i in range(len(examples))]
    return np.concatenate([dense_nll(model, params, row[None])[0] for row in rows])


@pytest.mark.parametrize(
    ("config", "layout", "stored"),
    [
        (PLAIN, "hf", "float32"),
        (PLAIN, "meta", "float32"),
        (PLAIN, "flax", "float32"),
        (MTP, "meta", "float32"),
        (dataclasses.replace(PLAIN, tie_embeddings=True), "hf", "float32"),
        (PLAIN, "hf", "bfloat16"),
    ],
    ids=["plain-hf-gqa", "plain-meta-gqa", "plain-flax-gqa", "mtp-meta-mha", "tied-hf", "stored-in-bf16"],
)
def test_cached_losses_are_the_live_ones(save, score, examples, config, layout, stored):
    directory = save(config, layout, stored)
    fresh = score(directory)
    assert fresh.dtype == np.float32
    assert fresh.shape == (examples.offsets[-1],)
    np.testing.assert_allclose(fresh, live(directory, examples, "float32"), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(fresh[examples.offsets[:-1]], 0)
    np.testing.assert_array_equal(score(directory), fresh)


def test_a_reference_in_bf16_computes_in_bf16(save, score, examples):
    """Eight bits of mantissa: near the fp32 losses, and exactly those of the same bf16 batches."""
    directory = save()
    scores = score(directory, dtype="bfloat16")
    config, params = converters.load(directory, dtype="bfloat16")
    model = MTPTransformer(config, jnp.bfloat16)
    for i, batch in enumerate(evaluation_batches(examples, batch_size=4, buckets=(16, 48))):
        expected = dense_nll(model, params, batch["tokens"], batch["segment_ids"])[batch["segment_ids"] != 0]
        begin, end = examples.offsets[[4 * i, min(4 * i + 4, len(examples))]]
        np.testing.assert_allclose(scores[begin:end], expected, atol=1e-2, rtol=0)
    np.testing.assert_allclose(scores, live(directory, examples, "float32"), atol=0.2, rtol=0)
    assert np.abs(scores - live(directory, examples, "float32")).max() > 1e-4


def test_the_same_losses_hold_in_packed_rows(save, score, examples):
    """What stands in a packed row is found by its tokens; its losses there are the cached ones."""
    directory = save()
    scores = score(directory)
    config, params = converters.load(directory)
    model = MTPTransformer(config)
    document_of = {
        examples.tokens(i).tobytes(): (a, b) for i, (a, b) in enumerate(itertools.pairwise(examples.offsets))
    }
    batches = make_batches(examples, batch_size=2, seed=0, buckets=(48,), pack=True)
    seen = set()
    for _ in range(3):
        batch = next(batches)
        nll_BxS = dense_nll(model, params, batch["tokens"], batch["segment_ids"])
        for tokens, segments, nll in zip(batch["tokens"], batch["segment_ids"], nll_BxS, strict=True):
            for segment in range(1, segments.max() + 1):
                begin, end = document_of[tokens[segments == segment].tobytes()]
                np.testing.assert_allclose(nll[segments == segment][1:], scores[begin + 1 : end], atol=1e-5, rtol=0)
                seen.add((begin, segment))
    batches.close()
    assert {segment for _, segment in seen} >= {1, 2, 3}


def test_batches_chunks_and_attention_change_nothing(save, score, tmp_path):
    directory = save()
    expected = score(directory)
    for i, change in enumerate(
        [{"batch_size": 1}, {"batch_size": 64, "buckets": (64,)}, {"chunk_length": 64}, {"attention": "blocked"}]
    ):
        np.testing.assert_allclose(score(directory, cache=tmp_path / str(i), **change), expected, atol=1e-5)


def test_the_second_time_no_model_is_run(save, score, monkeypatch, capsys):
    directory = save()
    first = score(directory)
    monkeypatch.setattr(converters, "load", None)
    np.testing.assert_array_equal(score(directory), first)
    said = capsys.readouterr().out.splitlines()
    assert "scoring 11 examples once with" in said[0]
    assert re.search(r"read from .*reference-train\.safetensors", said[1])
    assert len(said) == 2


def test_progress_says_how_fast_and_how_long(save, score, capsys):
    score(save())
    assert re.search(r"batch 3/3  loss \d+\.\d+  [\d,]+ tokens/s  ETA 0:00", capsys.readouterr().err)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"tokens": one.tokens ^ (np.arange(9) == 7)},
        lambda one: {"tokens": one.tokens ^ (np.arange(9) == 8)},
        lambda one: {"target_mask": one.target_mask & (np.arange(9) != 4)},
        lambda one: {"is_correct": not one.is_correct},
    ],
    ids=["a token", "the last token", "a mask bit", "a label"],
)
def test_other_data_are_refused(save, score, documents, change):
    directory = save()
    score(directory)
    changed = [*documents[:4], dataclasses.replace(documents[4], **change(documents[4])), *documents[5:]]
    with pytest.raises(ObjectiveError, match=r"stale scores: the token ids, masks or labels of the data changed since"):
        score(directory, examples=from_examples(changed))


@pytest.mark.parametrize("layout", ["hf", "meta"])
def test_any_changed_byte_of_the_reference_is_refused(save, score, layout):
    """The lowest bit of one byte of the first, a middle and the last weight; and a field of the config."""
    directory = save(layout=layout)
    score(directory)
    (weights,) = directory.glob("*.safetensors")
    sound = weights.read_bytes()
    data_begin = 8 + int.from_bytes(sound[:8], "little")
    stale = r"stale scores: the config or weights of the reference changed since; delete that file"
    for place in (data_begin, (data_begin + len(sound)) // 2, len(sound) - 4):
        weights.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(ObjectiveError, match=stale):
            score(directory)
    weights.write_bytes(sound)
    score(directory)
    config = directory / {"hf": "config.json", "meta": "params.json"}[layout]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rope_theta": 20000.0}))
    with pytest.raises(ObjectiveError, match=stale):
        score(directory)


def test_another_model_under_the_same_name_is_refused(save, score):
    score(save())
    with pytest.raises(ObjectiveError, match="the config or weights of the reference changed"):
        score(save(seed=1, name="elsewhere/reference"))


def test_another_dtype_is_refused_and_every_difference_named(save, score, examples):
    directory = save()
    score(directory)
    fewer = dataclasses.replace(examples, is_correct=-np.ones_like(examples.is_correct))
    with pytest.raises(ObjectiveError, match="stale scores: the dtype and the token ids, masks or labels of the data"):
        score(directory, examples=fewer, dtype="bfloat16")


def test_a_flipped_bit_of_the_scores_is_refused(save, score, cache):
    directory = save()
    score(directory)
    cache.write_bytes(cache.read_bytes()[:-1] + bytes([cache.read_bytes()[-1] ^ 1]))
    with pytest.raises(
        ObjectiveError, match="is damaged: the scores are not those that were written; delete that file"
    ):
        score(directory)


def test_another_vocabulary_is_refused(save, score):
    with pytest.raises(ObjectiveError, match=r"has a vocabulary of 1000 tokens, the policy's tokenizer .* one of 1024"):
        score(save(dataclasses.replace(PLAIN, vocab_size=1000)))


@pytest.mark.parametrize("place", ["tokenizer.model", "tokenizer/tokenizer.model"])
def test_another_tokenizer_of_the_same_size_is_refused(save, score, tokenizer, place):
    directory = save()
    own = directory / place
    own.parent.mkdir(exist_ok=True)
    shutil.copyfile(tokenizer.path, own)
    score(directory)
    own.write_bytes(own.read_bytes() + b"\0")
    with pytest.raises(ObjectiveError, match=r"is another one than the policy's .* take a reference that shares"):
        score(directory)


def test_a_context_that_is_too_short_is_refused(save, score):
    with pytest.raises(ObjectiveError, match=r"longest example has 40 tokens, but the context .* ends at 39"):
        score(save(dataclasses.replace(PLAIN, max_seq_len=39)))


def test_losses_that_are_no_numbers_are_refused_and_not_kept(save, score, cache):
    """Finite weights whose activations overflow."""
    directory = save()
    config, params = converters.load(directory)
    params["output"]["kernel"] = jax.numpy.full_like(params["output"]["kernel"], 3e38)
    converters.save_hf(directory.with_name("wild"), config, params)
    with pytest.raises(ObjectiveError, match=r"gives a loss of (nan|inf) to token 1 of example 'task_0'; take another"):
        score(directory.with_name("wild"))
    assert not cache.exists()


def test_of_a_model_with_heads_only_the_next_token_head_is_kept(save, tokenizer):
    model, params = load_reference(save(MTP, "meta"), tokenizer, max_length=40, dtype="float32")
    assert (model.config.n_future_tokens, model.config.n_trunk_layers) == (1, MTP.n_trunk_layers)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params["heads"])} == {1}


def test_real_losses(shared_data, tmp_path):
    """stories260k: the mean over a story is the published one, from a Hugging Face directory and from Meta's."""
    stories = shared_data / "stories260k"
    published = json.loads((stories / "reference.json").read_text())
    ids = np.array(published["story_ids"], np.int32)
    story = from_examples([Example(ids, np.arange(len(ids)) > 0, True, "story")])
    settings = {"batch_size": 1, "buckets": (512,), "chunk_length": 64, "dtype": "float32"}
    files = {"hf": ("hf_config.json", "config.json", "hf_model"), "meta": ("params.json", "params.json", "meta_model")}
    for layout, (config_name, written_name, weights) in files.items():
        directory = tmp_path / layout
        directory.mkdir()
        shutil.copyfile(stories / config_name, directory / written_name)
        shutil.copyfile(stories / f"{weights}.safetensors", directory / "model.safetensors")
        scores = reference_scores(
            story,
            directory,
            load_tokenizer(stories, for_code=False),
            cache=directory / "cache",
            **settings,
        )
        assert scores[1:].astype(np.float64).mean() == pytest.approx(published["story_ce_mean"], abs=1e-5)
