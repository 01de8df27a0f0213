"""Builds a problem: prompt, tests, correct programs in several styles and incorrect ones that fail a test."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, product
from random import Random
from typing import Any

from wmtp_jax.microcode.execution import BoundedProgram
from wmtp_jax.microcode.family import Family, Values
from wmtp_jax.microcode.mutation import candidates

MIN_TESTS = 12
MAX_TESTS = 18
MAX_ATTEMPTS = 120  # at drawing a test
MAX_INTEGER = 10**9  # of an expected result; larger ones make long lines
N_CANDIDATES = 24  # that may be incorrect; the tests are chosen to tell all of them from the correct programs
EXAMPLE_CHARACTERS = 44  # arguments and result of the prompt's example, where possible

Arguments = tuple[Any, ...]
Case = tuple[Arguments, Any]  # and the expected result


@dataclass(frozen=True)
class MicrocodeProblem:
    """A task with its checked solutions.

    Attributes:
        family: where it comes from.
        entry_point: name of the function.
        prompt: definition line and docstring with one example.
        tests: lines `assert f(..) == ..`.
        correct: bodies that pass all tests, all different, in random order.
        incorrect: bodies that end and fail at least one test, all different, in random order.
    """

    family: Family
    entry_point: str
    prompt: str
    tests: tuple[str, ...]
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]


def settings(family: Family) -> list[Values]:
    """Every combination of parameter values that is a problem of the family."""
    every = (dict(zip(family.parameters, values, strict=True)) for values in product(*family.parameters.values()))
    return [values for values in every if family.valid(values)]


def build(family: Family, values: Values, rng: Random) -> MicrocodeProblem:
    """One problem of the family, with all styles as correct programs and the incorrect ones that were found.

    Args:
        family: the family.
        values: the problem's setting.
        rng: the problem's own random stream.

    Raises:
        ValueError: a style of the family fails a test; the family is wrong.
    """
    names: dict[str, str] = {}
    for hole, argument in family.arguments.items():
        names[hole] = rng.choice([name for name in argument.names if name not in names.values()])
    entry_point = family.fill(rng.choice(family.functions), values, names)
    head = f"def {entry_point}({', '.join(names.values())}):\n"

    bodies = [family.body(style, values, names) for style in range(len(family.templates))]
    programs = [BoundedProgram(head + body, entry_point) for body in bodies]
    rivals: dict[str, BoundedProgram] = {}
    for body in islice(candidates(family, values, bodies, names, rng), N_CANDIDATES):
        if body not in rivals:
            with suppress(SyntaxError):
                rivals[body] = BoundedProgram(head + body, entry_point)

    n_edges = len(next(iter(family.arguments.values())).edges)
    cases = _choose_cases(programs[0], rivals, _inputs(family, values, rng), n_edges)
    for style, program in enumerate(programs):
        for args, expected in cases:
            if not program.returns(args, expected):
                raise ValueError(f"{family.name}: style {style} of {values} fails on {args}, expected {expected!r}")
    failing = {body: rival for body, rival in rivals.items() if not all([rival.returns(*case) for case in cases])}

    call = lambda args: f"{entry_point}({', '.join(map(repr, args))})"
    sentence = family.fill(rng.choice(family.docs), values, names)
    args, expected = min(cases[n_edges:], key=_example_cost)
    return MicrocodeProblem(
        family=family,
        entry_point=entry_point,
        prompt=f'{head}    """{sentence}\n    >>> {call(args)}\n    {expected!r}\n    """\n',
        tests=tuple(f"assert {call(args)} == {expected!r}" for args, expected in cases),
        correct=tuple(rng.sample(bodies, len(bodies))),
        incorrect=tuple(body for body, rival in failing.items() if not rival.endless),  # a check of them has to end
    )


def _inputs(family: Family, values: Values, rng: Random) -> Iterator[Arguments]:
    """The edges first, then endless draws."""
    arguments = family.arguments.values()
    yield from zip(*(argument.edges for argument in arguments), strict=True)
    constants = tuple(value for value in values.values() if type(value) is int)
    words = tuple(value for value in values.values() if type(value) is str)
    while True:
        yield tuple(argument.draw(rng, constants, words) for argument in arguments)


def _choose_cases(
    program: BoundedProgram, rivals: dict[str, BoundedProgram], inputs: Iterator[Arguments], n_edges: int
) -> list[Case]:
    """The edges, further inputs up to MIN_TESTS, and up to MAX_TESTS those that a rival fails which passed so far."""
    cases: list[Case] = []
    undetected = dict(rivals)
    for attempt, args in enumerate(islice(inputs, MAX_ATTEMPTS)):
        expected = program(*args)
        too_large = isinstance(expected, int) and abs(expected) >= MAX_INTEGER
        if too_large or any(args == known for known, _ in cases):
            continue
        detected = [body for body, rival in undetected.items() if not rival.returns(args, expected)]
        if attempt < n_edges or len(cases) < MIN_TESTS or detected:
            cases.append((args, expected))
            for body in detected:
                del undetected[body]
        if len(cases) >= MAX_TESTS or (len(cases) >= MIN_TESTS and not undetected):
            break
    return cases


def _example_cost(case: Case) -> tuple[bool, bool, bool, int]:
    """Small for an example that is short and whose result shows something."""
    args, expected = case
    length = len(repr(case))
    return length > EXAMPLE_CHARACTERS, not expected, expected == args[0], length
