"""What a task family is: parameters with domains, and templates that are filled with their values.

Everything a solution depends on is a parameter with a domain: constants, operators, bounds, starts, aggregates. So the
right program of one problem is a wrong one of its sibling, and right and wrong programs have the same distribution.
"""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

Values = dict[str, Any]


class Comparison(NamedTuple):
    """An order relation: its operator, words for the prompt, a part of a function's name, and its negation."""

    code: str
    words: str
    name: str
    negation: str


class Sign(NamedTuple):
    """A binary operator: its symbol, the word between two operands, and the verb."""

    code: str
    words: str
    verb: str


COMPARISONS = (
    Comparison(">", "greater than", "above", "<="),
    Comparison(">=", "at least", "from", "<"),
    Comparison("<", "less than", "below", ">="),
    Comparison("<=", "at most", "up_to", ">"),
)
PLUS = Sign("+", "plus", "add")
MINUS = Sign("-", "minus", "subtract")
TIMES = Sign("*", "times", "multiply")
SIGNS = (PLUS, MINUS)
OPERATORS = (PLUS, MINUS, TIMES)


@dataclass(frozen=True)
class Argument:
    """One argument of the functions of a family.

    Attributes:
        names: what it may be called in a prompt.
        edges: values that every problem is tested with.
        draw: draws a value from (random stream, interesting integers, interesting strings).
    """

    names: tuple[str, ...]
    edges: tuple[Any, ...]
    draw: Callable[[Random, tuple[int, ...], tuple[str, ...]], Any]


@dataclass(frozen=True)
class Family:
    """A parametric family of problems.

    Attributes:
        name: unique name.
        topic: arithmetic, conditions, lists, strings, dictionaries, loops or algorithms.
        difficulty: easy, medium or hard.
        functions: templates of the function's name.
        arguments: placeholder -> argument, in the order of the signature.
        parameters: name -> domain. A problem is one value for each.
        docs: templates of the prompt's sentence; they name every parameter.
        styles: templates of the body. Every style solves every problem of the family.
        valid: which combinations of values are problems.
        derive: further values for the holes, which follow from the parameters and the arguments' names.
    """

    name: str
    topic: str
    difficulty: str
    functions: tuple[str, ...]
    arguments: Mapping[str, Argument]
    parameters: Mapping[str, tuple[Any, ...]]
    docs: tuple[str, ...]
    styles: tuple[str, ...]
    valid: Callable[[Values], bool] = lambda values: True
    derive: Callable[[Values], Values] = lambda values: {}

    def fill(self, template: str, values: Values, names: Mapping[str, str]) -> str:
        """The template with parameter values and argument names in its holes."""
        given = {**values, **names}
        return template.format(**given, **self.derive(given))

    def body(self, style: int, values: Values, names: Mapping[str, str]) -> str:
        """The indented body of the function in one style, ending with one newline."""
        text = self.fill(textwrap.dedent(self.styles[style]).strip("\n"), values, names)
        return textwrap.indent(text, "    ") + "\n"
