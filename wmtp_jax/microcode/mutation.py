"""How correct programs become incorrect ones, without leaving a trace in the bag of tokens.

Most incorrect programs solve a sibling problem (another constant, operator, bound, start, branch or aggregate). The
others are rearrangements of a correct program: the same tokens in an order that is a mistake. Whether a candidate
really is incorrect is found by running it.
"""

import itertools
import re
from collections.abc import Iterator
from random import Random

from wmtp_jax.microcode.family import Family, Values

REARRANGED_SHARE = 0.25

_OPERANDS = re.compile(r"(?<![\w.\])'])(\w+) (-|%|//|\*\*|<=?|>=?) (\w+)(?![\w.\[('])")
_INDENT = "    "


def siblings(family: Family, values: Values, rng: Random) -> Iterator[Values]:
    """Endless settings that differ from `values` in one parameter, or have two of its values exchanged.

    The step is symmetric: a setting is left as often as it is reached, so the programs of siblings have the
    distribution of the programs of problems.
    """
    names = list(family.parameters)
    weights = [1 if isinstance(value, int) else 2 for value in values.values()]
    while True:
        [name] = rng.choices(names, weights)
        domain = family.parameters[name]
        other = dict(values)
        if isinstance(values[name], int) and rng.randrange(2):
            other[name] = values[name] + rng.choice((-1, 1))  # off by one
        elif isinstance(values[name], int) and rng.randrange(2):
            second = rng.choice(names)
            other[name], other[second] = values[second], values[name]
            if other[second] not in family.parameters[second]:
                continue
        else:
            other[name] = rng.choice(domain)
        if other != values and other[name] in domain and family.valid(other):
            yield other


def rearrangements(body: str) -> list[str]:
    """Every text that differs from the body by two operands, two neighbouring lines, or one line's indentation."""
    lines = body.splitlines(keepends=True)
    found = []
    for match in _OPERANDS.finditer(body):
        left, operator, right = match.groups()
        found.append(f"{body[: match.start()]}{right} {operator} {left}{body[match.end() :]}")
    for index, (first, second) in enumerate(itertools.pairwise(lines)):
        if _depth(first) == _depth(second) and not first.endswith(":\n") and not second.endswith(":\n"):
            found.append("".join([*lines[:index], second, first, *lines[index + 2 :]]))
    for index in range(1, len(lines)):
        above, line = lines[index - 1], lines[index]
        if _depth(line) < _depth(above) and not line.endswith(":\n"):
            found.append("".join([*lines[:index], _INDENT + line, *lines[index + 1 :]]))
        if _depth(line) > 1 and not above.endswith(":\n") and not line.endswith(":\n"):
            found.append("".join([*lines[:index], line.removeprefix(_INDENT), *lines[index + 1 :]]))
    return found


def candidates(family: Family, values: Values, bodies: list[str], names: dict[str, str], rng: Random) -> Iterator[str]:
    """Endless bodies that may be incorrect: none of the correct `bodies`; perhaps correct, repeated or no Python."""
    settings = siblings(family, values, rng)
    moved = [rearrangements(body) for body in bodies]
    while True:
        style = rng.randrange(len(bodies))
        if moved[style] and rng.random() < REARRANGED_SHARE:
            body = rng.choice(moved[style])
        else:
            body = family.body(style, next(settings), names)
        if body not in bodies:
            yield body


def _depth(line: str) -> int:
    return (len(line) - len(line.lstrip(" "))) // len(_INDENT)
