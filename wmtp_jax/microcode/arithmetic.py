"""Families of integer arithmetic."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import SIGNS, Family
from wmtp_jax.microcode.inputs import INTEGER

family = partial(Family, topic="arithmetic")

Division = namedtuple("Division", "code words index")  # one of the two results of divmod

FAMILIES = (
    family(
        name="linear",
        difficulty="easy",
        functions=("linear", "scale"),
        arguments={"x": INTEGER},
        parameters={"a": range(2, 13), "sign": SIGNS, "b": range(1, 16)},
        docs=("Return {a} times {x} {sign.words} {b}.",),
        styles="""
            return {a} * {x} {sign.code} {b}

            result = {x} * {a}
            return result {sign.code} {b}

            {x} *= {a}
            return {x} {sign.code} {b}
        """,
    ),
    family(
        name="shifted_division",
        difficulty="easy",
        functions=("divide", "{part.words}"),
        arguments={"x": INTEGER},
        parameters={
            "b": range(1, 13),
            "part": (Division("%", "remainder", 1), Division("//", "quotient", 0)),
            "m": range(2, 11),
        },
        docs=("Add {b} to {x} and return the {part.words} of dividing by {m}.",),
        styles="""
            return ({x} + {b}) {part.code} {m}

            total = {x} + {b}
            return total {part.code} {m}

            return divmod({x} + {b}, {m})[{part.index}]
        """,
    ),
    family(
        name="weighted_pair",
        difficulty="easy",
        functions=("combine", "weigh"),
        arguments={"x": INTEGER, "y": INTEGER},
        parameters={"a": range(2, 12), "sign": SIGNS, "b": range(2, 12)},
        docs=("Return {a} times {x} {sign.words} {b} times {y}.",),
        styles="""
            return {a} * {x} {sign.code} {b} * {y}

            left = {x} * {a}
            right = {y} * {b}
            return left {sign.code} right
        """,
    ),
    family(
        name="clamp",
        difficulty="medium",
        functions=("clamp", "limit"),
        arguments={"x": INTEGER},
        parameters={"low": range(0, 12), "high": range(12, 26)},
        docs=("Limit {x} to the range from {low} to {high}.",),
        styles="""
            return max({low}, min({x}, {high}))

            if {x} < {low}:
                return {low}
            if {x} > {high}:
                return {high}
            return {x}

            {x} = min({x}, {high})
            return max({x}, {low})
        """,
    ),
    family(
        name="power",
        difficulty="medium",
        functions=("power", "raise_power"),
        arguments={"x": INTEGER},
        parameters={"p": (2, 3, 4), "sign": SIGNS, "c": range(1, 31)},
        docs=("Return {x} to the power of {p} {sign.words} {c}.",),
        styles="""
            return {x} ** {p} {sign.code} {c}

            result = 1
            for _ in range({p}):
                result *= {x}
            return result {sign.code} {c}
        """,
    ),
    family(
        name="distance",
        difficulty="easy",
        functions=("distance", "gap"),
        arguments={"x": INTEGER},
        parameters={"c": range(1, 16), "a": range(2, 13)},
        docs=("Return the distance between {x} and {c}, times {a}.",),
        styles="""
            return abs({x} - {c}) * {a}

            if {x} > {c}:
                return ({x} - {c}) * {a}
            return ({c} - {x}) * {a}
        """,
    ),
)
