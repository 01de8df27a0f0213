"""Families that choose between results."""

from typing import Any, NamedTuple

from wmtp_jax.microcode.family import COMPARISONS, OPERATORS, Family
from wmtp_jax.microcode.inputs import INTEGER


class Pair(NamedTuple):
    """Two labels, in the order in which they are used."""

    first: str
    second: str


class Ends(NamedTuple):
    """Whether the ends of a range belong to it: operators for inside (upper, lower) and outside (below, above)."""

    words: str
    inside: str
    mirror: str
    below: str
    above: str


class Joint(NamedTuple):
    """How two divisibility conditions are joined."""

    words: str
    code: str
    second: str
    prefix: str


PAIRS = tuple(
    Pair(*pair)
    for first, second in (("big", "small"), ("high", "low"), ("hot", "cold"), ("old", "new"), ("yes", "no"))
    for pair in ((first, second), (second, first))
)


def _differ(values: dict[str, Any]) -> bool:
    return values["a"] != values["b"]


FAMILIES = (
    Family(
        name="label",
        topic="conditions",
        difficulty="easy",
        functions=("label", "describe"),
        arguments={"x": INTEGER},
        parameters={"pair": PAIRS, "op": COMPARISONS, "c": tuple(range(1, 16))},
        docs=("Return '{pair.first}' if {x} is {op.words} {c}, otherwise '{pair.second}'.",),
        styles=(
            "return '{pair.first}' if {x} {op.code} {c} else '{pair.second}'",
            """
            if {x} {op.code} {c}:
                return '{pair.first}'
            return '{pair.second}'
            """,
            """
            if {x} {op.negation} {c}:
                return '{pair.second}'
            return '{pair.first}'
            """,
        ),
    ),
    Family(
        name="piecewise",
        topic="conditions",
        difficulty="medium",
        functions=("adjust", "step"),
        arguments={"x": INTEGER},
        parameters={
            "f": OPERATORS,
            "a": tuple(range(2, 10)),
            "op": COMPARISONS,
            "c": tuple(range(1, 16)),
            "g": OPERATORS,
            "b": tuple(range(2, 10)),
        },
        docs=("Return {x} {f.words} {a} if {x} is {op.words} {c}, otherwise {x} {g.words} {b}.",),
        styles=(
            "return {x} {f.code} {a} if {x} {op.code} {c} else {x} {g.code} {b}",
            """
            if {x} {op.code} {c}:
                return {x} {f.code} {a}
            return {x} {g.code} {b}
            """,
            """
            if {x} {op.code} {c}:
                {x} {f.code}= {a}
            else:
                {x} {g.code}= {b}
            return {x}
            """,
        ),
        valid=lambda values: (values["f"], values["a"]) != (values["g"], values["b"]),
    ),
    Family(
        name="between",
        topic="conditions",
        difficulty="medium",
        functions=("between", "in_range"),
        arguments={"x": INTEGER},
        parameters={
            "low": tuple(range(0, 10)),
            "high": tuple(range(10, 21)),
            "ends": (Ends("included", "<=", ">=", "<", ">"), Ends("excluded", "<", ">", "<=", ">=")),
        },
        docs=("Return True if {x} lies between {low} and {high}, both {ends.words}.",),
        styles=(
            "return {low} {ends.inside} {x} {ends.inside} {high}",
            "return {x} {ends.mirror} {low} and {x} {ends.inside} {high}",
            """
            if {x} {ends.below} {low} or {x} {ends.above} {high}:
                return False
            return True
            """,
        ),
    ),
    Family(
        name="divisible",
        topic="conditions",
        difficulty="medium",
        functions=("divisible", "check"),
        arguments={"x": INTEGER},
        parameters={
            "a": tuple(range(2, 11)),
            "joint": (
                Joint("and by", "and", "==", ""),
                Joint("or by", "or", "==", ""),
                Joint("but not by", "and", "!=", "not "),
            ),
            "b": tuple(range(2, 11)),
        },
        docs=("Return True if {x} is divisible by {a} {joint.words} {b}.",),
        styles=(
            "return {x} % {a} == 0 {joint.code} {x} % {b} {joint.second} 0",
            """
            first = {x} % {a} == 0
            second = {x} % {b} == 0
            return first {joint.code} {joint.prefix}second
            """,
        ),
        valid=_differ,
    ),
    Family(
        name="grade",
        topic="conditions",
        difficulty="medium",
        functions=("grade", "rank"),
        arguments={"x": INTEGER},
        parameters={
            "upper": COMPARISONS[:2],
            "high": tuple(range(11, 21)),
            "lower": COMPARISONS[2:],
            "low": tuple(range(1, 11)),
        },
        docs=("Return 'high' if {x} is {upper.words} {high}, 'low' if it is {lower.words} {low}, otherwise 'mid'.",),
        styles=(
            """
            if {x} {upper.code} {high}:
                return 'high'
            if {x} {lower.code} {low}:
                return 'low'
            return 'mid'
            """,
            """
            result = 'mid'
            if {x} {upper.code} {high}:
                result = 'high'
            elif {x} {lower.code} {low}:
                result = 'low'
            return result
            """,
        ),
    ),
)
