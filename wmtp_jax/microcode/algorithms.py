"""Families of small algorithms."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, SIGNS, Family, Values
from wmtp_jax.microcode.inputs import COUNT, INTEGERS, LONG_LIST, NATURAL, integer

family = partial(Family, topic="algorithms")

Digits = namedtuple("Digits", "words name remainder digit")  # what one digit contributes, in two styles
Reducer = namedtuple("Reducer", "words code")  # a built-in that turns a list into one number
Nearness = namedtuple("Nearness", "words name option")  # nearest or farthest first


def _direction(values: Values) -> Values:
    """Where multiples are looked for: upwards from the limit for > and >=, downwards for < and <=."""
    op, up = values["op"], values["op"] in COMPARISONS[:2]
    return {
        "which": "smallest" if up else "largest",
        "step": "+" if up else "-",
        "shift": f" {'+' if up else '-'} 1" if "=" not in op.code else "",
    }


FAMILIES = (
    family(
        name="sequence",
        difficulty="hard",
        functions=("sequence", "term"),
        arguments={"n": COUNT},
        parameters={"a": range(0, 7), "b": range(1, 8), "m": (1, 2, 3), "sign": SIGNS},
        docs=(
            "Start with {a} and {b}; each next term is {m} times the last {sign.words} the one before. "
            "Return term {n}.",
        ),
        styles="""
            a, b = {a}, {b}
            for _ in range({n}):
                a, b = b, {m} * b {sign.code} a
            return a

            terms = [{a}, {b}]
            while len(terms) <= {n}:
                terms.append({m} * terms[-1] {sign.code} terms[-2])
            return terms[{n}]
        """,
    ),
    family(
        name="digits_above",
        difficulty="hard",
        functions=("digits_{op.name}", "add_digits"),
        arguments={"n": integer(0, 99999, (0, 1, 9, 10, 345, 2678))},
        parameters={"start": range(0, 10), "op": COMPARISONS, "c": range(1, 9)},
        docs=("Start at {start} and add each digit of {n} that is {op.words} {c}.",),
        styles="""
            return {start} + sum(int(ch) for ch in str({n}) if int(ch) {op.code} {c})

            total = {start}
            while {n} > 0:
                digit = {n} % 10
                if digit {op.code} {c}:
                    total += digit
                {n} //= 10
            return total

            total = {start}
            for ch in str({n}):
                if int(ch) {op.code} {c}:
                    total += int(ch)
            return total
        """,
    ),
    family(
        name="base_digits",
        difficulty="hard",
        functions=("base_digits", "{digits.name}_digits"),
        arguments={"n": integer(0, 400, (0, 1, 2, 10, 81))},
        parameters={
            "start": range(0, 10),
            "digits": (Digits("count", "count", "1", "1"), Digits("add up", "sum", "{n} % {k}", "digit")),
            "k": range(2, 11),
        },
        docs=("Start at {start} and {digits.words} the digits of {n} in base {k}.",),
        styles="""
            total = {start}
            while {n} > 0:
                total += {item}
                {n} //= {k}
            return total

            total = {start}
            while {n} > 0:
                {n}, digit = divmod({n}, {k})
                total += {digits.digit}
            return total
        """,
        derive=lambda values: {"item": values["digits"].remainder.format(n=values["n"], k=values["k"])},
    ),
    family(
        name="reduce_steps",
        difficulty="hard",
        functions=("reduce_steps", "steps_down"),
        arguments={"n": NATURAL},
        parameters={"k": range(2, 7), "b": (1, 2, 3), "c": range(1, 13)},
        docs=("Count the steps until {n} is at most {c}: divide by {k} if possible, otherwise subtract {b}.",),
        styles="""
            steps = 0
            while {n} > {c}:
                if {n} % {k} == 0:
                    {n} //= {k}
                else:
                    {n} -= {b}
                steps += 1
            return steps

            steps = 0
            while {n} > {c}:
                {n} = {n} // {k} if {n} % {k} == 0 else {n} - {b}
                steps += 1
            return steps
        """,
    ),
    family(
        name="next_multiple",
        difficulty="hard",
        functions=("multiple_{op.name}", "find_multiple"),
        arguments={"n": NATURAL},
        parameters={"a": range(2, 11), "op": COMPARISONS, "b": range(1, 10)},
        docs=("Return the {which} multiple of {a} that is {op.words} {n} plus {b}.",),
        styles="""
            m = {n} + {b}{shift}
            while m % {a} != 0:
                m {step}= 1
            return m

            m = ({n} + {b}) // {a} * {a}
            while m {op.negation} {n} + {b}:
                m {step}= {a}
            return m
        """,
        derive=_direction,
    ),
    family(
        name="groups",
        difficulty="medium",
        functions=("groups", "{reducer.code}_groups"),
        arguments={"nums": LONG_LIST},
        parameters={
            "k": range(2, 9),
            "reducer": (Reducer("sum", "sum"), Reducer("largest", "max"), Reducer("smallest", "min")),
            "b": range(1, 11),
        },
        docs=("Split {nums} into groups of {k} and return the {reducer.words} of each plus {b}.",),
        styles="""
            return [{reducer.code}({nums}[i:i + {k}]) + {b} for i in range(0, len({nums}), {k})]

            result = []
            for i in range(0, len({nums}), {k}):
                result.append({reducer.code}({nums}[i:i + {k}]) + {b})
            return result

            result = []
            while {nums}:
                result.append({reducer.code}({nums}[:{k}]) + {b})
                {nums} = {nums}[{k}:]
            return result
        """,
    ),
    family(
        name="nearest",
        difficulty="medium",
        functions=("{nearness.name}", "sort_{nearness.name}"),
        arguments={"nums": INTEGERS},
        parameters={
            "k": range(1, 6),
            "nearness": (
                Nearness("nearest to", "nearest", ""),
                Nearness("farthest from", "farthest", ", reverse=True"),
            ),
            "c": range(0, 21),
        },
        docs=("Return the {k} values of {nums} {nearness.words} {c}, in that order.",),
        styles="""
            return sorted({nums}, key=lambda v: abs(v - {c}){nearness.option})[:{k}]

            {nums}.sort(key=lambda v: abs(v - {c}){nearness.option})
            return {nums}[:{k}]
        """,
    ),
)
