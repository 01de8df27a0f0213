"""The arguments that the families' functions take, and how test inputs are drawn for them.

Inputs lie on and around the problem's own constants, so that `>` and `>=`, or 7 and 8, do not pass the same tests.
"""

from random import Random

from wmtp_jax.microcode.family import Argument

LETTERS = "abcdefghijklmnopqrstuvwxyz"
KEYS = ("apple", "pear", "plum", "fig", "kiwi", "lime", "bread", "milk", "rice", "salt", "tea", "corn")
WORDS = (  # by length, from 1
    ("a", "i"),
    ("by", "to", "we"),
    ("sea", "old", "red"),
    ("blue", "tree", "over"),
    ("light", "green", "river"),
    ("window", "little", "summer"),
    ("morning", "between", "village"),
    ("mountain", "together", "children"),
    ("beautiful", "yesterday", "telephone"),
    ("everything", "understand", "strawberry"),
    ("imagination", "temperature", "electricity"),
    ("neighborhood", "relationship", "construction"),
)


def near(rng: Random, constants: tuple[int, ...], low: int, high: int) -> int:
    """An integer in [low, high]: half of the time one of the constants or its neighbour."""
    if constants and rng.randrange(2):
        return min(max(rng.choice(constants) + rng.randrange(-1, 2), low), high)
    return rng.randrange(low, high + 1)


def integer(low: int, high: int, edges: tuple[int, ...]) -> Argument:
    """An integer argument in [low, high]."""
    draw = lambda rng, constants, words: near(rng, constants, low, high)
    return Argument(("n", "x", "num", "value"), edges, draw)


def integers(shortest: int, longest: int) -> Argument:
    """A list of integers; the edges are shorter."""

    def draw(rng: Random, constants: tuple[int, ...], words: tuple[str, ...]) -> list[int]:
        return [near(rng, constants, -9, 25) for _ in range(rng.randrange(shortest, longest + 1))]

    return Argument(("nums", "items", "numbers", "xs"), ([], [0], [7], [-3, 12]), draw)


def text(longest: int) -> Argument:
    """A string of lower-case letters in which the problem's own are frequent."""

    def draw(rng: Random, constants: tuple[int, ...], words: tuple[str, ...]) -> str:
        own, length = "".join(words), rng.randrange(2, longest + 1)
        return "".join(rng.choice(own) if own and rng.randrange(3) == 0 else rng.choice(LETTERS) for _ in range(length))

    return Argument(("s", "text", "word"), ("", "a", "zz"), draw)


def _draw_sentence(rng: Random, constants: tuple[int, ...], words: tuple[str, ...]) -> str:
    """Words with lengths on both sides of the problem's constants."""
    return " ".join(rng.choice(WORDS[near(rng, constants, 1, len(WORDS)) - 1]) for _ in range(rng.randrange(2, 5)))


def _draw_table(rng: Random, constants: tuple[int, ...], words: tuple[str, ...]) -> dict[str, int]:
    keys = rng.sample(KEYS, rng.randrange(1, 4))
    keys += [word for word in words if word in KEYS and word not in keys and rng.randrange(2)]
    return {key: near(rng, constants, -5, 25) for key in keys}


INTEGER = integer(-20, 40, (0, 1, -1, 10))
NATURAL = integer(0, 40, (0, 1, 2, 10))
COUNT = integer(0, 12, (0, 1, 2))
INTEGERS = integers(2, 6)
LONG_LIST = integers(3, 10)
TEXT = text(8)
LONG_TEXT = text(14)
SENTENCE = Argument(("s", "text", "line"), ("", "a", "by sea"), _draw_sentence)
TABLE = Argument(("d", "table", "prices", "stock"), ({}, {"fig": 0}, {"tea": 7, "salt": -2}), _draw_table)
