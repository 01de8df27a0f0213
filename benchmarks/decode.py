"""Greedy generation: self-speculation, head 1 alone, the torch reference with its cache, transformers' generate.

    python benchmarks/decode.py --out decode.json

The prompts are embedded tasks of the test split, fp32, the weights those of micro-mtp (for transformers its head 1).
All four continue the same prompts up to their EOS, in batches of 1 and of 16, and take turns round by round, so that a
change of the machine's speed hits all alike; the median round counts. Tokens are those of the continuations, so nobody
is paid for padding or for what follows an EOS.

micro-mtp has 2 million parameters and four of its eight layers are heads: there a pass over four tokens with all heads
costs about two passes over one token, and its answers are so short that much of the time is the prompt's and the
host's. Speculation gains little at that size. So all is measured again, on every third prompt, with micro-mtp grown
(benchmarks/growth.py) to 512 channels and 17 or 32 layers, of which four are heads as before (all heads have 1.21 or
1.10 times the layers of head 1 alone), where reading the weights counts; the tokens are checked to be the same. That
tells what this acceptance, of a small model on its own easy tasks, is worth at such a cost of a pass; a trained large
model has an acceptance of its own, and a larger vocabulary. About 16 minutes on 2 cores.

Aims, reported for each: speculation >= 2x head 1 alone on embedded tasks (batch 1) with >= 2.5 tokens per forward pass;
head 1 alone >= 1.5x transformers. "Bound" is what speculation would be if its first token and its passes took no longer
than those of head 1 alone.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from operator import eq
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import converters
from benchmarks.growth import grow
from vendor.meta_llama import LLaMA, ModelArgs, Transformer
from wmtp_jax.data import encode_prompt, load_tokenizer, read_records, render
from wmtp_jax.decoding import generate, unstack_layers
from wmtp_jax.decoding.steps import decode, prefill
from wmtp_jax.files import write_atomically
from wmtp_jax.model import ModelConfig, init_params, with_heads

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "storage/models_v2/micro-mtp"
TEST_SPLIT = ROOT / "storage/datasets_v2/microcode/test.jsonl.gz"
GROWN = [{"dim": 512, "n_trunk_layers": n, "head_dim": 64, "ffn_dim": 1376} for n in (13, 28)]
SMALL = ModelConfig(dim=32, n_layers=6, n_heads=2, vocab_size=64, ffn_dim=64, n_future_tokens=4, max_seq_len=256)
SMALL_GROWN = [{"dim": 128, "n_trunk_layers": 3, "head_dim": 64, "ffn_dim": 96}]


class Ours:
    """`wmtp_jax.decoding.generate`."""

    def __init__(self, directory: Path, speculate: bool, **settings):
        self.config, params = converters.load(directory, dtype="float32")
        self.layers = unstack_layers(params, n_heads=self.config.n_future_tokens, dtype="float32")
        self.settings = {"speculate": speculate, **settings}
        self.results = []

    def batch(self, prompts: list[list[int]], **settings) -> list[list[int]]:
        """Continues the prompts of one batch."""
        settings = {"batch_size": len(prompts), **self.settings, **settings}
        self.results += (results := generate(self.layers, self.config, prompts, **settings))
        return [result.tokens for result in results]

    def first_token(self, prompt: list[int]) -> None:
        """Prefill and one token, in the program of the whole continuation."""
        generate(self.layers, self.config, [prompt], batch_size=1, on_tokens=lambda *_: True, **self.settings)


class TorchReference:
    """The reference's own loop over its KV cache; it is told how many tokens will come, so that it ends with them."""

    def __init__(self, directory: Path, eos_id: int):
        model = Transformer(ModelArgs.from_json(directory / "params.json"))
        files = sorted(directory.glob("*.safetensors"))
        state = {name: tensor.float() for path in files for name, tensor in load_file(path).items()}
        model.load_state_dict(state)
        self.llama = LLaMA(model, type("Tokenizer", (), {"eos_id": eos_id})())
        self.eos_id, self.n_new = eos_id, {}

    @torch.inference_mode()
    def batch(self, prompts: list[list[int]]) -> list[list[int]]:
        """Continues the prompts of one batch."""
        lengths = [self.n_new[tuple(prompt)] for prompt in prompts]
        # It drops the EOS; a continuation that did not use up its room had one.
        rows = zip(lengths, self.llama.generate(prompts, max(lengths)), strict=True)
        return [[*row, self.eos_id] if len(row) < length else row for length, row in rows]

    @torch.inference_mode()
    def first_token(self, prompt: list[int]) -> None:
        """Prefill and one token."""
        self.llama.generate([prompt], 1)


class Transformers:
    """`LlamaForCausalLM.generate` on the trunk with head 1, prompts padded on the left."""

    def __init__(self, directory: Path, eos_id: int, max_new_tokens: int):
        self.model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.eos_id, self.max_new_tokens = eos_id, max_new_tokens

    @torch.inference_mode()
    def batch(self, prompts: list[list[int]], max_new_tokens: int | None = None) -> list[list[int]]:
        """Continues the prompts of one batch."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        settings = {"do_sample": False, "eos_token_id": self.eos_id, "pad_token_id": self.eos_id}
        config = transformers.GenerationConfig(max_new_tokens=max_new_tokens or self.max_new_tokens, **settings)
        rows = self.model.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
        return [row[: row.index(self.eos_id) + 1] if self.eos_id in row else row for row in rows]

    def first_token(self, prompt: list[int]) -> None:
        """Prefill and one token."""
        self.batch([prompt], 1)


def seconds_of(call, *arguments) -> tuple[float, object]:
    """Wall-clock seconds of a call, and its result."""
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def continue_all(peer, prompts: list[list[int]], batch_size: int) -> list[list[int]]:
    """The continuations of all prompts in their order, batch by batch."""
    starts = range(0, len(prompts), batch_size)
    return [row for start in starts for row in peer.batch(prompts[start : start + batch_size])]


def measure(peers: dict, prompts: list[list[int]], batch_size: int, rounds: int) -> dict:
    """Runs all peers in turn over all prompts.

    Args:
        peers: by name; the first one sets the expected tokens.
        prompts: sorted by length, so that batches need little padding.
        batch_size: prompts per call.
        rounds: timed rounds per peer.

    Returns:
        The tokens of the first peer; per peer tokens per second (median, and every round), seconds of the first call
        beyond a later one, and how many of its rows are those of the first peer.
    """
    rows, expected = {}, None
    for name, peer in peers.items():
        first, _ = seconds_of(peer.batch, prompts[:batch_size])
        again, _ = seconds_of(peer.batch, prompts[:batch_size])
        tokens = continue_all(peer, prompts, batch_size)
        if expected is None:
            expected = tokens
        rows[name] = {"first_call_s": first, "warm_up_s": max(first - again, 0.0), "rounds_s": []}
        rows[name]["rows_equal"] = sum(a == b for a, b in zip(tokens, expected, strict=True))
        for other in peers.values():
            if isinstance(other, TorchReference):
                other.n_new |= {tuple(p): len(row) for p, row in zip(prompts, expected, strict=True)}
    n_tokens = sum(map(len, expected))
    names = list(peers)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(0.5)  # the threads of the peer before go on spinning for a while
            rows[name]["rounds_s"].append(seconds_of(continue_all, peers[name], prompts, batch_size)[0])
    for row in rows.values():
        row["tokens_per_s"] = n_tokens / statistics.median(row["rounds_s"])
    return {"batch_size": batch_size, "n_prompts": len(prompts), "tokens": expected, "peers": rows}


def time_to_first_token(peers: dict, prompts: list[list[int]]) -> dict[str, float]:
    """Median seconds from prompt to first token, batch 1, compiled."""
    times = {name: [] for name in peers}
    for prompt in prompts:
        for name, peer in peers.items():
            peer.first_token(prompt)
            times[name].append(seconds_of(peer.first_token, prompt)[0])
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_per_pass(config: ModelConfig, params) -> float:
    """Median seconds of a decoding pass over N tokens with all N heads, batch 1, eight passes at a time."""
    slots, one = 192, np.ones(1, np.int32)
    layers = unstack_layers(params, n_heads=config.n_future_tokens, dtype="float32")
    settings = {"eos_id": -1, "sampling": None, "dtype": jnp.float32}
    limits = (slots - config.n_future_tokens) * one
    rows = np.ones((1, slots), np.int32), 48 * one, limits, jax.random.key(0), 0 * one
    with jax.default_matmul_precision("highest"):
        state = prefill(layers, config, *rows, chunk=64, n_prompt_slots=64, **settings)
        eight = lambda state: jax.block_until_ready(decode(layers, config, state, n_forwards=8, **settings))
        state, times = eight(state), []
        while not state.done.all() and len(times) < 9:
            seconds, state = seconds_of(eight, state)
            if not state.done.all():  # all eight were run
                times.append(seconds / 8)
    return statistics.median(times)


def prepare(arguments, work: Path) -> tuple[Path, list[list[int]], int]:
    """The model's directory, the prompts in order of length, and the EOS."""
    if arguments.small:
        rng = np.random.default_rng(0)
        params = init_params(SMALL, seed=1)
        params["heads"] = jax.tree.map(lambda x: 0.9 * x[:1] + 0.1 * x, params["heads"])
        converters.save_meta(work / "model", SMALL, params)
        prompts = [rng.integers(3, 64, n).tolist() for n in rng.integers(4, 30, arguments.n_prompts)]
        return work / "model", sorted(prompts, key=len), 2
    tokenizer = load_tokenizer(arguments.model)
    texts = dict.fromkeys(render(record, "raw") for record in read_records(TEST_SPLIT))
    prompts = [encode_prompt(text, tokenizer) for text in list(texts)[: arguments.n_prompts]]
    return arguments.model, sorted(prompts, key=len), tokenizer.eos_id


def study(directory: Path, prompts: list[list[int]], eos_id: int, max_new_tokens: int, rounds: int) -> dict:
    """Everything about one model: a directory in Meta's layout, and prompts in order of length."""
    config, params = converters.load(directory, dtype="float32")
    with tempfile.TemporaryDirectory() as hugging_face:
        converters.save_hf(Path(hugging_face) / "model", config, params)
        settings = {"eos_id": eos_id, "max_new_tokens": max_new_tokens}
        drafting = Ours(directory, speculate=True, **settings)
        peers = {
            "speculation": drafting,
            "head 1 alone": Ours(directory, speculate=False, **settings),
            "torch reference": TorchReference(directory, eos_id),
            "transformers": Transformers(Path(hugging_face) / "model", **settings),
        }
    runs = [measure(peers, prompts, batch_size, rounds) for batch_size in (1, 16)]
    n_tokens = sum(len(result.tokens) for result in drafting.results)
    n_forwards = sum(result.forward_passes for result in drafting.results)
    speed = {name: row["tokens_per_s"] for name, row in runs[0]["peers"].items()}
    aims = {
        "tokens per forward pass": (n_tokens / n_forwards, 2.5),
        "speculation / head 1 alone, batch 1": (speed["speculation"] / speed["head 1 alone"], 2.0),
        "head 1 alone / transformers, batch 1": (speed["head 1 alone"] / speed["transformers"], 1.5),
    }
    first_token_s = time_to_first_token(peers, prompts[:: max(len(prompts) // 8, 1)])
    first, answer = first_token_s["head 1 alone"], sum(map(len, runs[0]["tokens"])) / len(prompts)
    # Of a mean answer: its seconds with head 1 alone, over those with the first token as it is and fewer passes.
    alone_s, later_passes = answer / speed["head 1 alone"], n_forwards / len(drafting.results) - 1
    bound = alone_s / (first + (alone_s - first) * later_passes / (answer - 1))
    return {
        "n_parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "runs": runs,
        "first_token_s": first_token_s,
        "pass_s": {
            "one token, head 1": seconds_per_pass(with_heads(config, 1), params),
            "N tokens, N heads": seconds_per_pass(config, params),
        },
        "bound": bound,
        "aims": {name: {"value": value, "aim": aim} for name, (value, aim) in aims.items()},
    }


def show(name: str, found: dict) -> None:
    """Prints what `study` found."""
    n_prompts = found["runs"][0]["n_prompts"]
    print(f"{name}, {found['n_parameters'] / 1e6:.1f} million parameters, {n_prompts} prompts")
    print(f"  {'':<18}{'tokens/s':>20}{'rows equal':>20}{'compile s':>20}{'first token':>14}")
    print(f"  {'':<18}" + f"{'batch 1':>10}{'batch 16':>10}" * 3 + f"{'ms':>14}")
    for peer, seconds in found["first_token_s"].items():
        row = [run["peers"][peer] for run in found["runs"]]
        cells = [f"{one['tokens_per_s']:>10.0f}" for one in row]
        cells += [f"{one['rows_equal']:>6}/{n_prompts:<3}" for one in row]
        cells += [f"{one['warm_up_s']:>10.1f}" for one in row]
        print(f"  {peer:<18}" + "".join(cells) + f"{1e3 * seconds:>14.1f}")
    (one_name, one), (all_name, block) = found["pass_s"].items()
    print(f"  a pass, {one_name}: {1e3 * one:.2f} ms; {all_name}: {1e3 * block:.2f} ms, {block / one:.2f} x")
    print(f"  bound of speculation / head 1 alone, batch 1: {found['bound']:.2f}")
    for aim in found["aims"]:
        print(f"  {aim}: {found['aims'][aim]['value']:.2f} (aim {found['aims'][aim]['aim']})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="Meta layout, safetensors (default: micro-mtp)")
    parser.add_argument("--n_prompts", type=int, default=48, help="a third of them for the grown models")
    parser.add_argument("--max_new_tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="tiny random models: does the script run?")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory, prompts, eos_id = prepare(arguments, Path(temporary))
        models = {directory.name: (directory, prompts)}
        for shape in SMALL_GROWN if arguments.small else GROWN:
            config, params = grow(*converters.load(directory, dtype="float32"), **shape)
            name = f"{directory.name} grown to {config.n_layers} layers"
            models[name] = Path(temporary) / name, prompts[::3]
            converters.save_meta(models[name][0], config, params)
            del params
        print(f"greedy, fp32, {os.cpu_count()} cores, {jax.devices()[0].device_kind}")
        found = {}
        for name, (path, of_model) in models.items():
            found[name] = study(path, of_model, eos_id, arguments.max_new_tokens, arguments.rounds)
            show(name, found[name])
            if path != directory:
                pairs = found[directory.name]["runs"][0]["tokens"][::3], found[name]["runs"][0]["tokens"]
                print(f"  rows equal to those of {directory.name}: {sum(map(eq, *pairs))}/{len(of_model)}")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "device": jax.devices()[0].device_kind},
        "versions": {"jax": jax.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "small": arguments.small,
        "models": found,
    }
    write_atomically(arguments.out, json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
