"""Continues a prompt: python -m wmtp_jax.generate --model storage/models_v2/micro-mtp --prompt "def add(a, b):"

Text appears as it is generated; then follow tokens per second and tokens per forward pass. `--show_drafts` colours the
tokens that the extra heads drafted and head 1 confirmed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import converters
from wmtp_jax.data import Tokenizer, encode_prompt, load_tokenizer
from wmtp_jax.decoding import DecodingError, Generation, generate_text, unstack_layers
from wmtp_jax.errors import UserError
from wmtp_jax.model import ModelConfig

_DRAFT_COLOUR, _PLAIN = "\033[32m", "\033[0m"


class Stream:
    """Prints a continuation as it grows, never more than is sure to stay.

    Held back are a character whose bytes are not complete and what may be the beginning of a stop string.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: list[int], stop: Sequence[str], show_drafts: bool):
        self._tokenizer, self._prompt, self._stop, self._show_drafts = tokenizer, prompt, stop, show_drafts
        self._n_tokens = 0
        self._drafted: list[bool] = []  # Per character of the decoded text: whether a draft brought it.
        self._printed = 0

    def __call__(self, place: int, tokens: list[int], heads: list[int]) -> bool:
        """Takes the tokens so far; as `on_tokens` of `generate`."""
        text = self._take(tokens, heads)
        if not any(one in text for one in self._stop):
            self._print(text[: len(text) - self._held_back(text)])
        return False

    def finish(self, result: Generation) -> None:
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
    arguments = _parser().parse_args(argv)
    try:
        return run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Loads, compiles, generates."""
    directory = model_directory(Path(arguments.model))
    config, params = converters.load(directory, dtype="float32")
    # A story teller's tokenizer may drop repeated spaces; that is no reason not to hear its story.
    tokenizer = load_tokenizer(directory, vocab_size=config.vocab_size, for_code=False)
    text = _prompt(arguments.prompt)
    prompt = encode_prompt(text, tokenizer)
    settings = {
        "stop": arguments.stop,
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "top_p": arguments.top_p,
        "top_k": arguments.top_k,
        "speculate": not arguments.no_speculation,
        "seed": arguments.seed,
    }
    n_heads = 1 if arguments.no_speculation else config.n_future_tokens
    params = unstack_layers(params, n_heads=n_heads, dtype="float32", donate=True)
    start = time.perf_counter()
    _compile(params, config, tokenizer, prompt, settings)
    compiled = time.perf_counter()
    colours = arguments.show_drafts and sys.stdout.isatty()
    stream = Stream(tokenizer, prompt, arguments.stop, colours)
    sys.stdout.write(text)
    (result,) = generate_text(params, config, tokenizer, [prompt], on_tokens=stream, **settings)
    seconds = time.perf_counter() - compiled
    stream.finish(result)
    print(_summary(result, config, seconds, compiled - start, arguments), file=sys.stderr)
    return 0


def _prompt(argument: str) -> str:
    """The prompt itself, or what standard input holds."""
    try:
        text = sys.stdin.read() if argument == "-" else argument
        # Python lets bytes that are no UTF-8 through as lone surrogates, depending on the locale.
        text.encode()
    except UnicodeError as error:
        raise DecodingError(f"the prompt is not UTF-8 text ({error}); convert it to UTF-8.") from error
    return text


def model_directory(path: Path) -> Path:
    """The model a path stands for: itself, or the export of a training run."""
    return path / "export" if (path / "export").is_dir() else path


def _compile(params, config: ModelConfig, tokenizer: Tokenizer, prompt: list[int], settings: dict) -> None:
    """Generates a few tokens, so that the time of the real run is not that of the compiler."""
    looks = []
    generate_text(
        params, config, tokenizer, [prompt], on_tokens=lambda *_: looks.append(None) or len(looks) > 1, **settings
    )


def _summary(result: Generation, config: ModelConfig, seconds: float, compile_seconds: float, arguments) -> str:
    n = len(result.tokens)
    lines = [
        f"[{result.stop_reason}] {n} tokens in {seconds:.2f} s: {n / seconds:.0f} tokens/s, "
        f"{n / result.forward_passes:.2f} tokens per forward pass ({result.forward_passes} passes); "
        f"compiled in {compile_seconds:.1f} s"
    ]
    if arguments.show_drafts and not arguments.no_speculation and config.n_future_tokens > 1:
        checked = max(result.forward_passes - 1, 1)
        kept = enumerate(result.accepted(config.n_future_tokens), start=2)
        lines.append("drafts kept: " + ", ".join(f"head {head} {count / checked:.0%}" for head, count in kept))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wmtp_jax.generate", description="Continue a prompt with a model of any layout."
    )
    parser.add_argument("--model", required=True, metavar="DIR|RUN", help="a model's directory, or a training run's")
    parser.add_argument("--prompt", required=True, help="text to continue; - reads it from standard input")
    parser.add_argument("--max_new_tokens", type=int, default=256, metavar="N", help="default 256")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--top_p", type=float, default=1.0, help="mass of the nucleus; default 1, all tokens")
    parser.add_argument("--top_k", type=int, default=0, help="most probable tokens kept; default 0, all tokens")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="ends the text; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling; default 0")
    parser.add_argument("--no_speculation", action="store_true", help="head 1 alone, one token per forward pass")
    parser.add_argument("--show_drafts", action="store_true", help="colour confirmed drafts; how many of them per head")
    return parser


if __name__ == "__main__":
    sys.exit(main())
