"""Builds a problem: prompt, tests, right programs in several styles and wrong programs that fail a test."""

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
MAX_INTEGER = 10**9  # of an expected result; larger ones make long lines
N_CANDIDATES = 24  # of wrong programs; the tests are chosen to tell all of them from right
EXAMPLE_CHARACTERS = 44  # arguments and result of the prompt's example, where possible


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
    names = list(family.parameters)
    every = (dict(zip(names, values, strict=True)) for values in product(*family.parameters.values()))
    return [values for values in every if family.valid(values)]


def _constants(values: Values) -> tuple[tuple[int, ...], tuple[str, ...]]:
    integers = tuple(value for value in values.values() if type(value) is int)
    return integers, tuple(value for value in values.values() if type(value) is str)


def _small(value: Any) -> bool:
    return not isinstance(value, int) or abs(value) < MAX_INTEGER


def _inputs(family: Family, values: Values, rng: Random) -> Iterator[tuple[Any, ...]]:
    """The edges first, then endless draws."""
    arguments = list(family.arguments.values())
    yield from zip(*(argument.edges for argument in arguments), strict=True)
    constants, words = _constants(values)
    while True:
        yield tuple(argument.draw(rng, constants, words) for argument in arguments)


def _call(entry_point: str, args: tuple[Any, ...]) -> str:
    return f"{entry_point}({', '.join(map(repr, args))})"


def build(family: Family, values: Values, rng: Random) -> MicrocodeProblem:
    """One problem of the family.

    Args:
        family: the family.
        values: the problem's setting.
        rng: the problem's own random stream.

    Returns:
        The problem with all styles as correct programs and the incorrect ones that were found.

    Raises:
        ValueError: two styles of the family disagree on a test; the family is wrong.
    """
    names: dict[str, str] = {}
    for hole, argument in family.arguments.items():
        names[hole] = rng.choice([name for name in argument.names if name not in names.values()])
    entry_point = family.fill(rng.choice(family.functions), values, names)
    head = f"def {entry_point}({', '.join(names.values())}):\n"

    def compiled(body: str) -> BoundedProgram:
        return BoundedProgram(head + body, entry_point)

    bodies = [family.body(style, values, names) for style in range(len(family.styles))]
    programs = [compiled(body) for body in bodies]
    rivals: dict[str, BoundedProgram] = {}
    for body in islice(candidates(family, values, bodies, names, rng), N_CANDIDATES):
        with suppress(SyntaxError):
            rivals.setdefault(body, compiled(body))

    n_edges = len(next(iter(family.arguments.values())).edges)
    cases = _choose_cases(programs[0], rivals, _inputs(family, values, rng), n_edges)
    for style, program in enumerate(programs):
        for args, expected in cases:
            if not program.returns(args, expected):
                raise ValueError(f"{family.name}: style {style} of {values} fails on {args}, expected {expected!r}")
    failing = {body: rival for body, rival in rivals.items() if not all([rival.returns(*case) for case in cases])}
    incorrect = [body for body, rival in failing.items() if not rival.endless]  # a check of them must not take for ever

    sentence = family.fill(rng.choice(family.docs), values, names)
    args, expected = _example(cases, n_edges)
    example = f"    >>> {_call(entry_point, args)}\n    {expected!r}\n"
    correct = rng.sample(bodies, len(bodies))
    return MicrocodeProblem(
        family=family,
        entry_point=entry_point,
        prompt=f'{head}    """{sentence}\n{example}    """\n',
        tests=tuple(f"assert {_call(entry_point, args)} == {expected!r}" for args, expected in cases),
        correct=tuple(correct),
        incorrect=tuple(incorrect),
    )


def _choose_cases(
    program: BoundedProgram, rivals: dict[str, BoundedProgram], inputs: Iterator[tuple[Any, ...]], n_edges: int
) -> list[tuple[tuple[Any, ...], Any]]:
    """Edges and MIN_TESTS cases in all, and then up to MAX_TESTS those that unmask a rival that passed so far."""
    cases: list[tuple[tuple[Any, ...], Any]] = []
    undetected = dict(rivals)
    for attempt in range(120):
        args = next(inputs)
        expected = program(*args)
        if any(args == known for known, _ in cases) or not _small(expected):
            continue
        unmasked = [body for body, rival in undetected.items() if not rival.returns(args, expected)]
        if attempt < n_edges or len(cases) < MIN_TESTS or unmasked:
            cases.append((args, expected))
            for body in unmasked:
                del undetected[body]
        if len(cases) >= MAX_TESTS or (len(cases) >= MIN_TESTS and not undetected):
            break
    return cases


def _tediousness(case: tuple[tuple[Any, ...], Any]) -> tuple[bool, bool, bool, int]:
    """Small for an example that is short and whose result shows something."""
    args, expected = case
    length = len(repr(case))
    return length > EXAMPLE_CHARACTERS, not expected, expected == args[0], length


def _example(cases: list[tuple[tuple[Any, ...], Any]], n_edges: int) -> tuple[tuple[Any, ...], Any]:
    """The best example among the regular cases."""
    return min(cases[n_edges:], key=_tediousness)
