"""Scores of a reward model against torch: a random tiny model in the layout of Starling-RM-7B-alpha, saved by torch."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import converters
from configs import defaults
from wmtp_jax.data import load_tokenizer
from wmtp_jax.model import MTPTransformer
from wmtp_jax.objectives.reward_model import chat_tokens, last_scores, reward_scores

SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
SOLUTIONS = [
    ("Add two numbers.", "def add(a, b):\n    return a + b\n"),
    ("Write nothing.", "pass"),
    ("Sort a list of numbers without using sorted.", "def sort(x):\n    x.sort()\n    return x\n" * 12),
    ("", "x"),
    ("Hello?", "Hi, how can I help you?"),
]


class TorchRewardModel(torch.nn.Module):
    """What the published state dict is of: a language model, its backbone again, a linear map to one number."""

    def __init__(self, config):
        super().__init__()
        self.model = transformers.LlamaForCausalLM(config)
        self.transformer = self.model.model
        self.v_head = torch.nn.Linear(config.hidden_size, 1, bias=False)

    @torch.no_grad()
    def scores(self, tokens_BxS: torch.Tensor) -> list[float]:
        """Row by row: the score at the token before the first id 0, else at the last token."""
        rewards_BxS = self.v_head(self.transformer(tokens_BxS)[0]).squeeze(-1)
        found = []
        for row, rewards in zip(tokens_BxS.tolist(), rewards_BxS, strict=True):
            end = row.index(0) if 0 in row else len(row)
            found.append(float(rewards[end - 1]))
        return found


@pytest.fixture(scope="module")
def published(root, tmp_path_factory):
    """The torch model, and the directory that it was saved to."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **SIZES, num_key_value_heads=3, vocab_size=1024, rms_norm_eps=1e-5, max_position_embeddings=512
    )
    model = TorchRewardModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
    directory = tmp_path_factory.mktemp("reward-model")
    record = {"model_type": "llama", **SIZES, "num_key_value_heads": 3, "vocab_size": 1024, "rms_norm_eps": 1e-5}
    (directory / "config.json").write_text(json.dumps(record | {"max_position_embeddings": 512}))
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    shutil.copyfile(root / "storage/models_v2/micro-mtp/tokenizer.model", directory / "tokenizer.model")
    return model, directory


def test_state_dict_holds_the_backbone_twice(published):
    names = set(published[0].state_dict())
    assert {"model.model.norm.weight", "transformer.norm.weight", "model.lm_head.weight", "v_head.weight"} <= names
    assert len(names) == 2 * (2 + 9 * SIZES["num_hidden_layers"]) + 2


def test_scores_of_padded_rows(published):
    """Rows that end at different places, one without padding, one with id 0 in its middle."""
    model, directory = published
    config, params, kernel_Dx1 = converters.load_reward_model(directory)
    tokens_BxS = np.random.default_rng(0).integers(1, 1024, (4, 200))
    tokens_BxS[0, 120:] = 0
    tokens_BxS[1, 7:] = 0
    tokens_BxS[2, 50] = 0
    ours = last_scores(MTPTransformer(config), params, kernel_Dx1, jnp.asarray(tokens_BxS, jnp.int32))
    np.testing.assert_allclose(ours, model.scores(torch.tensor(tokens_BxS)), rtol=1e-4, atol=1e-4)
    assert np.std(np.asarray(ours)) > 0.01


def test_scores_of_texts(published, tmp_path, capsys):
    """In batches of like length, in the order in which they were given, and the same from the cache."""
    model, directory = published
    tokenizer = load_tokenizer(directory)
    expected = [model.scores(torch.tensor([chat_tokens(*pair, tokenizer, 512)]))[0] for pair in SOLUTIONS]
    config = defaults.get_config()
    config.data.reward_model, config.evaluation.batch_size = str(directory), 2
    score = lambda: reward_scores(config, SOLUTIONS, tmp_path / "rewards")
    first = score()
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-4)
    assert "scoring 5 solutions once" in capsys.readouterr().out
    np.testing.assert_array_equal(score(), first)
    assert "read from" in capsys.readouterr().out


def test_template_of_the_model_card(published):
    """<s>[INST] instruction </s> [/INST] output</s> behind one more BOS; what is too long loses its beginning."""
    tokenizer = load_tokenizer(published[1])
    tokens = chat_tokens("Hello?", "Hi there", tokenizer, 512)
    eos = tokenizer.eos_id
    assert tokens[:2] == [tokenizer.bos_id] * 2
    assert tokens[-1] == eos
    middle = tokens.index(eos)
    assert tokenizer.decode_continuation([], tokens[2:middle]).strip() == "[INST] Hello?"
    assert tokenizer.decode_continuation(tokens[: middle + 1], tokens[middle + 1 : -1]) == " [/INST] Hi there"
    assert chat_tokens("Hello?", "Hi there", tokenizer, 10) == [tokenizer.bos_id, *tokens[-9:]]
