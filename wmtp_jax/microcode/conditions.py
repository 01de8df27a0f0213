"""Families that choose between results."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, OPERATORS, Family
from wmtp_jax.microcode.inputs import INTEGER

family = partial(Family, topic="conditions")

Labels = namedtuple("Labels", "first second")  # in the order in which they are used
# Whether the ends of a range belong to it: operators for inside (upper, lower) and outside (below, above).
Ends = namedtuple("Ends", "words inside mirror below above")
Joint = namedtuple("Joint", "words code second prefix")  # how two divisibility conditions are joined

PAIRS = tuple(
    Labels(*pair)
    for first, second in (("big", "small"), ("high", "low"), ("hot", "cold"), ("old", "new"), ("yes", "no"))
    for pair in ((first, second), (second, first))
)

FAMILIES = (
    family(
        name="label",
        difficulty="easy",
        functions=("label", "describe"),
        arguments={"x": INTEGER},
        parameters={"pair": PAIRS, "op": COMPARISONS, "c": range(1, 16)},
        docs=("Return '{pair.first}' if {x} is {op.words} {c}, otherwise '{pair.second}'.",),
        styles="""
            return '{pair.first}' if {x} {op.code} {c} else '{pair.second}'

            if {x} {op.code} {c}:
                return '{pair.first}'
            return '{pair.second}'

            if {x} {op.negation} {c}:
                return '{pair.second}'
            return '{pair.first}'
        """,
    ),
    family(
        name="piecewise",
        difficulty="medium",
        functions=("adjust", "step"),
        arguments={"x": INTEGER},
        parameters={
            "f": OPERATORS,
            "a": range(2, 10),
            "op": COMPARISONS,
            "c": range(1, 16),
            "g": OPERATORS,
            "b": range(2, 10),
        },
        docs=("Return {x} {f.words} {a} if {x} is {op.words} {c}, otherwise {x} {g.words} {b}.",),
        styles="""
            return {x} {f.code} {a} if {x} {op.code} {c} else {x} {g.code} {b}

            if {x} {op.code} {c}:
                return {x} {f.code} {a}
            return {x} {g.code} {b}

            if {x} {op.code} {c}:
                {x} {f.code}= {a}
            else:
                {x} {g.code}= {b}
            return {x}
        """,
        valid=lambda values: (values["f"], values["a"]) != (values["g"], values["b"]),
    ),
    family(
        name="between",
        difficulty="medium",
        functions=("between", "in_range"),
        arguments={"x": INTEGER},
        parameters={
            "low": range(0, 10),
            "high": range(10, 21),
            "ends": (Ends("included", "<=", ">=", "<", ">"), Ends("excluded", "<", ">", "<=", ">=")),
        },
        docs=("Return True if {x} lies between {low} and {high}, both {ends.words}.",),
        styles="""
            return {low} {ends.inside} {x} {ends.inside} {high}

            return {x} {ends.mirror} {low} and {x} {ends.inside} {high}

            if {x} {ends.below} {low} or {x} {ends.above} {high}:
                return False
            return True
        """,
    ),
    family(
        name="divisible",
        difficulty="medium",
        functions=("divisible", "check"),
        arguments={"x": INTEGER},
        parameters={
            "a": range(2, 11),
            "joint": (
                Joint("and by", "and", "==", ""),
                Joint("or by", "or", "==", ""),
                Joint("but not by", "and", "!=", "not "),
            ),
            "b": range(2, 11),
        },
        docs=("Return True if {x} is divisible by {a} {joint.words} {b}.",),
        styles="""
            return {x} % {a} == 0 {joint.code} {x} % {b} {joint.second} 0

            first = {x} % {a} == 0
            second = {x} % {b} == 0
            return first {joint.code} {joint.prefix}second
        """,
        valid=lambda values: values["a"] != values["b"],
    ),
    family(
        name="grade",
        difficulty="medium",
        functions=("grade", "rank"),
        arguments={"x": INTEGER},
        parameters={
            "upper": COMPARISONS[:2],
            "high": range(11, 21),
            "lower": COMPARISONS[2:],
            "low": range(1, 11),
        },
        docs=("Return 'high' if {x} is {upper.words} {high}, 'low' if it is {lower.words} {low}, otherwise 'mid'.",),
        styles="""
            if {x} {upper.code} {high}:
                return 'high'
            if {x} {lower.code} {low}:
                return 'low'
            return 'mid'

            result = 'mid'
            if {x} {upper.code} {high}:
                result = 'high'
            elif {x} {lower.code} {low}:
                result = 'low'
            return result
        """,
    ),
)
