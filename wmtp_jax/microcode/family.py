"""What a task family is: parameters with domains, and templates that are filled with their values.

Everything a solution depends on is a parameter with a domain: constants, operators, bounds, starts, aggregates. So the
correct program of one problem is an incorrect one of its sibling, and both kinds have the same distribution.
"""

import functools
import textwrap
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Values = dict[str, Any]

# Parameter values that are more than a number or a word; templates read their fields, as in {op.code}.
Comparison = namedtuple("Comparison", "code words name negation")  # an order relation
Sign = namedtuple("Sign", "code words verb")  # a binary operator: its symbol, the word between two operands, the verb
Aggregate = namedtuple("Aggregate", "words name item")  # counting or adding up: what one value contributes

COMPARISONS = (
    Comparison(">", "greater than", "above", "<="),
    Comparison(">=", "at least", "from", "<"),
    Comparison("<", "less than", "below", ">="),
    Comparison("<=", "at most", "up_to", ">"),
)
PLUS, MINUS, TIMES = Sign("+", "plus", "add"), Sign("-", "minus", "subtract"), Sign("*", "times", "multiply")
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
        styles: templates of the body, with empty lines between them. Every style solves every problem of the family.
        valid: which combinations of values are problems.
        derive: further values for the holes, which follow from the parameters and the arguments' names.
    """

    name: str
    topic: str
    difficulty: str
    functions: tuple[str, ...]
    arguments: Mapping[str, Argument]
    parameters: Mapping[str, Sequence[Any]]
    docs: tuple[str, ...]
    styles: str
    valid: Callable[[Values], bool] = lambda values: True
    derive: Callable[[Values], Values] = lambda values: {}

    @functools.cached_property
    def templates(self) -> list[str]:
        """The styles one by one, indented as the body of a function."""
        text = textwrap.indent(textwrap.dedent(self.styles).strip("\n"), "    ")
        return [f"{template}\n" for template in text.split("\n\n")]

    def fill(self, template: str, values: Values, names: Mapping[str, str]) -> str:
        """The template with parameter values and argument names in its holes."""
        given = {**values, **names}
        return template.format(**given, **self.derive(given))

    def body(self, style: int, values: Values, names: Mapping[str, str]) -> str:
        """The body of the function in one style."""
        return self.fill(self.templates[style], values, names)
