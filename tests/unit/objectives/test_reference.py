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
from configs import rho1_weighted
from wmtp_jax.data import Example, Examples, evaluation_batches, from_examples, load_tokenizer, make_batches
from wmtp_jax.model import ModelConfig, MTPTransformer, param_shapes
from wmtp_jax.objectives.objective import ObjectiveError
from wmtp_jax.objectives.rho1 import Rho1

VOCAB = 1024
PLAIN = ModelConfig(dim=16, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=VOCAB, ffn_dim=24, max_seq_len=64)
MTP = dataclasses.replace(PLAIN, n_layers=5, n_future_tokens=3, n_kv_heads=4)
SAVE = {"hf": converters.save_hf, "meta": converters.save_meta}


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


def rules_for(directory, *, buckets=(16, 48), batch_size=4, chunk_length=7, dtype="float32", attention="dense") -> Rho1:
    config = rho1_weighted.get_config()
    config.rho1.reference = str(directory)
    config.data.buckets, config.evaluation.batch_size = buckets, batch_size
    config.loss.chunk_length, config.model.dtype, config.model.attention = chunk_length, dtype, attention
    return Rho1(config, 1)


@pytest.fixture
def score(examples, tokenizer, tmp_path):
    """Losses under the reference in a directory, kept in `workdir`."""

    def run(directory, examples=examples, workdir=tmp_path, **settings):
        train, _ = rules_for(directory, **settings).prepare(examples, None, tokenizer, workdir)
        return train.token_scores["reference_nll"]

    return run


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
        (MTP, "meta", "float32"),
        (dataclasses.replace(PLAIN, tie_embeddings=True), "hf", "float32"),
        (PLAIN, "hf", "bfloat16"),
    ],
    ids=["plain-hf-gqa", "mtp-meta-mha", "tied-hf", "stored-in-bf16"],
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
        np.testing.assert_allclose(score(directory, workdir=tmp_path / str(i), **change), expected, atol=1e-5)


def test_the_first_time_says_how_fast_and_the_second_time_no_model_is_run(save, score, monkeypatch, capsys):
    directory = save()
    first = score(directory)
    monkeypatch.setattr(converters, "load", None)
    np.testing.assert_array_equal(score(directory), first)
    said = capsys.readouterr()
    assert re.search(r"batch 3/3  loss \d+\.\d+  [\d,]+ tokens/s  ETA 0:00", said.err)
    scored, read = said.out.splitlines()
    assert "scoring 11 examples once with" in scored
    assert re.search(r"read from .*reference-microcode-train-reference\.safetensors", read)


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


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"vocab_size": 1000}, r"has a vocabulary of 1000 tokens, the policy's tokenizer .* one of 1024"),
        ({"max_seq_len": 39}, r"longest example has 40 tokens, but the context .* ends at 39"),
    ],
)
def test_a_reference_that_does_not_fit_the_data_is_refused(save, score, fields, sentence):
    with pytest.raises(ObjectiveError, match=sentence):
        score(save(dataclasses.replace(PLAIN, **fields)))


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


def test_losses_that_are_no_numbers_are_refused_and_not_kept(save, score, tmp_path):
    """Finite weights whose activations overflow."""
    directory = save()
    config, params = converters.load(directory)
    params["output"]["kernel"] = jax.numpy.full_like(params["output"]["kernel"], 3e38)
    converters.save_hf(directory.with_name("wild"), config, params)
    with pytest.raises(ObjectiveError, match=r"gives a loss of (nan|inf) to token 1 of example 'task_0'; take another"):
        score(directory.with_name("wild"))
    assert not list(tmp_path.glob("reference_cache/*"))


def test_of_a_model_with_heads_only_the_next_token_head_is_kept(save, tokenizer):
    model, params = rules_for(save(MTP, "meta")).load_reference(tokenizer, max_length=40)
    assert (model.config.n_future_tokens, model.config.n_trunk_layers) == (1, MTP.n_trunk_layers)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params["heads"])} == {1}


@pytest.mark.parametrize(("layout", "config_name"), [("hf", "config.json"), ("meta", "params.json")])
def test_real_losses(shared_data, tmp_path, layout, config_name):
    """stories260k: the mean over a story is the published one, from a Hugging Face directory and from Meta's."""
    stories = shared_data / "stories260k"
    published = json.loads((stories / "reference.json").read_text())
    ids = np.array(published["story_ids"], np.int32)
    story = from_examples([Example(ids, np.arange(len(ids)) > 0, True, "story")])
    shutil.copyfile(stories / {"hf": "hf_config.json", "meta": "params.json"}[layout], tmp_path / config_name)
    shutil.copyfile(stories / f"{layout}_model.safetensors", tmp_path / "model.safetensors")
    rules = rules_for(tmp_path, buckets=(512,), batch_size=1, chunk_length=64)
    train, _ = rules.prepare(story, None, load_tokenizer(stories, for_code=False), tmp_path)
    losses = train.token_scores["reference_nll"][1:].astype(np.float64)
    assert losses.mean() == pytest.approx(published["story_ce_mean"], abs=1e-5)
