"""What the converters write, read by other code: the torch reference and transformers."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from converters import save_hf, save_meta
from vendor.meta_llama import ModelArgs, Transformer
from wmtp_jax.model import RopeScaling


@pytest.fixture(scope="module")
def scaled_case(new_case):
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
    return new_case(n_layers=5, n_future_tokens=3, n_kv_heads=3, rope_theta=500000.0, rope_scaling=scaling)


@pytest.fixture(scope="module")
def expected(scaled_case):
    return scaled_case.logits("dense", np.ones_like(scaled_case.batch.segment_ids))


def test_torch_reads_the_meta_export(scaled_case, expected, tmp_path):
    save_meta(tmp_path / "meta", scaled_case.config, scaled_case.params)
    args = ModelArgs.from_json(tmp_path / "meta" / "params.json")
    assert vars(args.rope_scaling) == vars(scaled_case.config.rope_scaling)
    model = Transformer(args)
    model.load_state_dict(load_file(tmp_path / "meta" / "consolidated.safetensors"))
    with torch.no_grad():
        logits = model(torch.as_tensor(scaled_case.batch.tokens), return_all_heads=True).numpy()
    assert np.abs(logits - expected).max() <= 1e-4


def test_transformers_reads_the_hugging_face_export_as_head_one(scaled_case, expected, tmp_path):
    save_hf(tmp_path / "hf", scaled_case.config, scaled_case.params)
    model = LlamaForCausalLM.from_pretrained(tmp_path / "hf", local_files_only=True)
    with torch.no_grad():
        logits = model(torch.as_tensor(scaled_case.batch.tokens)).logits.numpy()
    assert np.abs(logits - expected[:, :, 0]).max() <= 1e-4
