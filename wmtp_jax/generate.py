"""Continues a prompt: python -m wmtp_jax.generate --model storage/models_v2/micro-mtp --prompt "def add(a, b):"

Text appears as it is generated; then follow tokens per second and tokens per forward pass. `--show_drafts` colours the
tokens that the extra heads drafted and head 1 confirmed.
"""

import argparse
import functools
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_jax import cli

if TYPE_CHECKING:  # these import jax, which waits until the arguments are checked
    from wmtp_jax.data import Tokenizer
    from wmtp_jax.decoding import Generation
    from wmtp_jax.model import ModelConfig

_DRAFT_COLOUR, _PLAIN = "\033[32m", "\033[0m"
_EXAMPLES = (
    "python -m wmtp_jax.generate --model storage/models_v2/micro-mtp --prompt 'def add(a, b):' --show_drafts",
    "python -m wmtp_jax.generate --model runs/a --prompt - --temperature 0.8 --top_p 0.95 --seed 1 < prompt.txt",
)


class TextStreamer:
    """Prints a continuation as it grows, and only what later tokens cannot change.

    A character whose bytes are incomplete is held back, and so is what may be the beginning of a stop string.
    """

    def __init__(self, tokenizer: "Tokenizer", prompt: list[int], stop: Sequence[str], show_drafts: bool):
        self._tokenizer, self._prompt, self._stop, self._show_drafts = tokenizer, prompt, stop, show_drafts
        self._n_tokens = 0
        self._drafted: list[bool] = []  # Per character of the decoded text: whether a draft brought it.
        self._printed = 0

    def __call__(self, index: int, tokens: list[int], heads: list[int]) -> bool:
        """Takes the tokens so far; the `on_tokens` of `generate`."""
        text = self._take(tokens, heads)
        if not any(one in text for one in self._stop):
            self._print(text[: len(text) - self._held_back(text)])
        return False

    def finish(self, result: "Generation") -> None:
        """Prints the rest."""
        self._take(result.tokens, result.heads)
        self._print(result.text)
        print(flush=True)

    def _take(self, tokens: list[int], heads: list[int]) -> str:
        text = self._tokenizer.decode_continuation(self._prompt, tokens[: self._n_tokens])
        for n in range(self._n_tokens + 1, len(tokens) + 1):
            text = self._tokenizer.decode_continuation(self._prompt, tokens[:n])
            self._drafted += [heads[n - 1] > 1] * (len(text) - len(self._drafted))
        self._n_tokens = max(self._n_tokens, len(tokens))
        return text

    def _held_back(self, text: str) -> int:
        incomplete = len(text) - len(text.rstrip("\ufffd"))
        beginnings = [n for one in self._stop for n in range(1, len(one)) if text.endswith(one[:n])]
        return max([incomplete, *beginnings])

    def _print(self, text: str) -> None:
        colour = False
        for character, drafted in zip(text[self._printed :], self._drafted[self._printed :], strict=False):
            if self._show_drafts and drafted != colour:
                colour = drafted
                sys.stdout.write(_DRAFT_COLOUR if colour else _PLAIN)
            sys.stdout.write(character)
        sys.stdout.write(_PLAIN if colour else "")
        sys.stdout.flush()
        self._printed = max(self._printed, len(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return cli.run(lambda: run(_parser().parse_args(argv)))


def run(arguments: argparse.Namespace) -> None:
    """Loads, compiles, generates."""
    text = _prompt(arguments.prompt)

    import converters
    from wmtp_jax.data import encode_prompt, load_tokenizer
    from wmtp_jax.decoding import generate_text, unstack_layers

    directory = arguments.model / "export" if (arguments.model / "export").is_dir() else arguments.model
    config, params = converters.load(directory, dtype="float32")
    # A tokenizer that drops repeated spaces is no use for code, but a model of stories may have one.
    tokenizer = load_tokenizer(directory, vocab_size=config.vocab_size, for_code=False)
    prompt = encode_prompt(text, tokenizer)
    names = ("max_new_tokens", "temperature", "top_p", "top_k", "speculate", "seed")
    settings = {name: getattr(arguments, name) for name in names}
    stops = [re.compile("|".join(map(re.escape, arguments.stop)))] if arguments.stop else None
    n_heads = config.n_future_tokens if arguments.speculate else 1
    params = unstack_layers(params, n_heads=n_heads, dtype="float32", donate=True)
    generate = functools.partial(generate_text, params, config, tokenizer, [prompt], stops=stops, **settings)

    start = time.perf_counter()
    calls = []
    generate(on_tokens=lambda *_: calls.append(None) or len(calls) > 1)  # a few tokens, to compile
    compiled = time.perf_counter()
    streamer = TextStreamer(tokenizer, prompt, arguments.stop, arguments.show_drafts and sys.stdout.isatty())
    sys.stdout.write(text)
    (result,) = generate(on_tokens=streamer)
    seconds = time.perf_counter() - compiled
    streamer.finish(result)
    print(_summary(result, config, seconds, compiled - start, arguments), file=sys.stderr)


def _prompt(argument: str) -> str:
    """The prompt itself, or what standard input holds."""
    try:
        text = sys.stdin.read() if argument == "-" else argument
        # Python lets bytes that are no UTF-8 through as lone surrogates, depending on the locale.
        text.encode()
    except UnicodeError as error:
        raise cli.CommandLineError(f"the prompt is not UTF-8 text ({error}); convert it to UTF-8.") from error
    return text


def _summary(result: "Generation", config: "ModelConfig", seconds: float, compile_seconds: float, arguments) -> str:
    n = len(result.tokens)
    lines = [
        f"[{result.stop_reason}] {n} tokens in {seconds:.2f} s: {n / seconds:.0f} tokens/s, "
        f"{n / result.forward_passes:.2f} tokens per forward pass ({result.forward_passes} passes); "
        f"compiled in {compile_seconds:.1f} s"
    ]
    if arguments.show_drafts and arguments.speculate and config.n_future_tokens > 1:
        checked = max(result.forward_passes - 1, 1)
        kept = enumerate(result.accepted(config.n_future_tokens), start=2)
        lines.append("drafts kept: " + ", ".join(f"head {head} {count / checked:.0%}" for head, count in kept))
    return "\n".join(lines)


def _stop(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty; expected a non-empty string")
    return text


def _parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="python -m wmtp_jax.generate",
        description="Continue a prompt with a model of any layout.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR|RUN", help="a model's directory, or a training run's")
    add("--prompt", required=True, help="text to continue; - reads it from standard input")
    add("--max_new_tokens", type=cli.integer(1), default=256, metavar="N", help="default 256")
    add("--temperature", type=cli.number(0), default=0.0, help="0 (default) is greedy")
    add("--top_p", type=cli.number(above=0, most=1), default=1.0, help="mass of the nucleus; default 1, all tokens")
    add("--top_k", type=cli.integer(0), default=0, help="most probable tokens kept; default 0, all tokens")
    add("--stop", type=_stop, action="append", default=[], metavar="TEXT", help="ends the text; may be repeated")
    add("--seed", type=cli.seed, default=0, help="of the sampling; default 0")
    add("--no_speculation", dest="speculate", action="store_false", help="head 1 alone, one token per forward pass")
    add("--show_drafts", action="store_true", help="colour confirmed drafts; how many of them per head")
    return parser


if __name__ == "__main__":
    sys.exit(main())
