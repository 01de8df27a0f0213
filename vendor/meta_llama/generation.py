"""Generation with the next-token head: greedy or nucleus sampling over a KV cache."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from vendor.meta_llama.model import ModelArgs, Transformer
from vendor.meta_llama.tokenizer import Tokenizer


class LLaMA:
    """A model and its tokenizer."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer):
        self.model = model.eval()
        self.tokenizer = tokenizer

    @classmethod
    def build(cls, directory: str | Path) -> "LLaMA":
        """Reads a Meta directory: params.json, tokenizer.model, consolidated.pth or .safetensors files."""
        directory = Path(directory)
        tokenizer = Tokenizer(directory / "tokenizer.model")
        state = _read_state(directory)
        args = ModelArgs.from_json(directory / "params.json")
        args = dataclasses.replace(
            args,
            vocab_size=tokenizer.n_words if args.vocab_size == -1 else args.vocab_size,
            tie_embeddings="output.weight" not in state,
        )
        model = Transformer(args)
        model.load_state_dict(state)
        return cls(model, tokenizer)

    def generate(
        self,
        prompts: list[list[int]],
        max_gen_len: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continues every prompt by up to max_gen_len tokens; EOS ends a continuation and is not part of it.

        Args:
            prompts: token ids, each prompt with at least one.
            max_gen_len: new tokens per prompt.
            temperature: 0 is greedy.
            top_p: samples from the smallest set of tokens that holds this probability.
            seed: of the sampling.

        Returns:
            The new ids, one list per prompt.
        """
        generator = torch.Generator().manual_seed(seed)
        rows = [list(prompt) for prompt in prompts]
        ends = [len(prompt) + max_gen_len for prompt in prompts]
        fed = 0
        # Rows of unequal length march together: where a row still has prompt tokens, those are taken, not sampled.
        for length in range(min(map(len, rows)), max(ends)):
            tokens = torch.tensor([row[fed:length] for row in rows])
            logits = self.model(tokens, start_pos=fed)[:, -1, 0]
            for row, choice in zip(rows, _choose(logits, temperature, top_p, generator), strict=True):
                if len(row) == length:
                    row.append(choice)
            fed = length
        return [
            _before(row[len(prompt) : end], self.tokenizer.eos_id)
            for prompt, row, end in zip(prompts, rows, ends, strict=True)
        ]

    def text_completion(self, prompts: list[str], max_gen_len: int, temperature: float = 0.0, top_p: float = 1.0):
        """Prompts with their continuations, decoded together: a leading space survives only so."""
        ids = [self.tokenizer.encode(prompt, bos=True, eos=False) for prompt in prompts]
        new = self.generate(ids, max_gen_len, temperature, top_p)
        return [self.tokenizer.decode(a + b) for a, b in zip(ids, new, strict=True)]


def _read_state(directory: Path) -> dict[str, Tensor]:
    pickled = directory / "consolidated.pth"
    if pickled.exists():
        return torch.load(pickled, map_location="cpu", weights_only=True)
    from safetensors.torch import load_file

    return {name: x for path in sorted(directory.glob("*.safetensors")) for name, x in load_file(path).items()}


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> list[int]:
    """One token per row of logits [B, V]."""
    if temperature == 0:
        return logits.argmax(-1).tolist()
    sorted_probs, order = torch.softmax(logits / temperature, dim=-1).sort(dim=-1, descending=True)
    mass_before = sorted_probs.cumsum(-1) - sorted_probs
    kept = sorted_probs.masked_fill(mass_before >= top_p, 0.0)
    kept[:, 0] = sorted_probs[:, 0]
    drawn = torch.multinomial(kept, 1, generator=generator)
    return order.gather(-1, drawn)[:, 0].tolist()


def _before(ids: list[int], end_id: int) -> list[int]:
    return ids[: ids.index(end_id)] if end_id in ids else ids
