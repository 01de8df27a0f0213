"""The embedded tasks, from the shipped files to the arrays that a training step takes."""

import itertools
import json

import numpy as np
import pytest
import sentencepiece

from wmtp_jax.data import (
    Sampling,
    evaluation_batches,
    length_balanced_pairs,
    load_examples,
    load_tokenizer,
    make_batches,
    read_records,
    render,
)

BUCKETS = (64, 96, 128)


@pytest.fixture(scope="module")
def microcode(root):
    directory = root / "storage" / "datasets_v2" / "microcode"
    if not directory.is_dir():
        pytest.skip("needs storage/datasets_v2/microcode: python -m wmtp_jax.microcode builds it")
    return directory


@pytest.fixture(scope="module", params=["ours", "llama"])
def tokenizer(request, microcode, tmp_path_factory):
    """A tokenizer of the micro models' size, and the same with Llama-2's dummy prefix."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(r.instruction + r.output for r in read_records(microcode / "valid.jsonl.gz")),
            model_writer=file,
            vocab_size=800,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=request.param == "llama",
            allow_whitespace_only_pieces=True,
            minloglevel=2,
        )
    return load_tokenizer(path, vocab_size=800)


@pytest.fixture(scope="module")
def examples(microcode, tokenizer):
    return load_examples(
        microcode / "valid.jsonl.gz", tokenizer, template="raw", max_length=BUCKETS[-1], policy_samples="all"
    )


def solutions(batch, tokenizer):
    """Every document of a batch as (prompt, response), read from the arrays alone."""
    found = []
    for tokens, segments, targets in zip(batch["tokens"], batch["segment_ids"], batch["target_mask"], strict=True):
        for segment in range(1, segments.max(initial=0) + 1):
            here = segments == segment
            assert tokens[here][0] == tokenizer.bos_id
            assert tokens[here][-1] == tokenizer.eos_id
            assert targets[here][-1]
            prompt, response = tokens[here & ~targets], tokens[here & targets]
            found.append((tokenizer.decode(prompt), tokenizer.decode_continuation(prompt, response)))
    return found


@pytest.mark.parametrize("pack", [False, True])
def test_programs_come_out_of_training_batches_as_they_went_in(tokenizer, examples, pack):
    expected = {(render(record, "raw"), record.output) for record in examples.records()}
    batches = make_batches(examples, batch_size=4, seed=0, buckets=BUCKETS, pack=pack)
    epoch = itertools.islice(batches, int(np.ceil(batches.steps_per_epoch)))
    found = set(itertools.chain(*(solutions(batch, tokenizer) for batch in epoch)))
    batches.close()
    assert found <= expected
    # Of each of the three buckets some batches may wait for the next epoch.
    assert len(expected - found) < 0.06 * len(expected)


def test_evaluation_batches_hold_every_program_in_order(tokenizer, examples):
    batches = list(evaluation_batches(examples, batch_size=32, buckets=BUCKETS))
    found = list(itertools.chain(*(solutions(batch, tokenizer) for batch in batches)))
    assert found == [(render(record, "raw"), record.output) for record in examples.records()]
    labels = np.concatenate([batch["is_correct"] for batch in batches])
    np.testing.assert_array_equal(labels[: len(examples)], examples.is_correct)


def test_pairs_of_the_shipped_data_keep_most_solutions_and_tell_nothing_by_length(examples):
    pairs = length_balanced_pairs(examples)
    assert len(pairs) > 0.8 * np.sum(examples.is_correct == 1)
    batches = make_batches(
        examples, batch_size=2, seed=0, buckets=BUCKETS, sampling=Sampling(pairs=True, length_balanced=True)
    )
    epoch = list(itertools.islice(batches, len(pairs)))
    batches.close()
    assert sorted(batch["rows"].tolist() for batch in epoch) == pairs.tolist()
    correct, incorrect = np.stack([(batch["segment_ids"] > 0).sum(axis=1) for batch in epoch], axis=1)
    difference = np.subtract.outer(correct, incorrect)
    auc = np.mean(difference > 0) + np.mean(difference == 0) / 2
    assert abs(auc - 0.5) < 0.03
    assert (examples.problems[pairs[:, 0]] == examples.problems[pairs[:, 1]]).all()


def test_the_shipped_model_brings_a_tokenizer_for_the_shipped_data(root, microcode):
    directory = root / "storage" / "models_v2" / "micro-mtp"
    if not (directory / "tokenizer.model").is_file():
        pytest.skip("needs storage/models_v2/micro-mtp")
    vocab_size = json.loads((directory / "params.json").read_text())["vocab_size"]
    tokenizer = load_tokenizer(directory, vocab_size=vocab_size)
    for split in ("pretrain", "train", "valid", "test"):
        examples = load_examples(
            microcode / f"{split}.jsonl.gz", tokenizer, template="raw", max_length=BUCKETS[-1], over_length="error"
        )
        assert examples.counts.over_length == 0
