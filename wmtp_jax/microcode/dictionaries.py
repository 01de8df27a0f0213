"""Families on dictionaries."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, OPERATORS, SIGNS, Family
from wmtp_jax.microcode.inputs import INTEGERS, KEYS, TABLE

family = partial(Family, topic="dictionaries")

Part = namedtuple("Part", "words name code")  # what is taken from the entries of a dictionary

FAMILIES = (
    family(
        name="lookup",
        difficulty="easy",
        functions=("lookup", "get_value"),
        arguments={"d": TABLE},
        parameters={"key": KEYS, "g": OPERATORS, "a": range(2, 10), "c": range(0, 10)},
        docs=("Return the value of '{key}' in {d} {g.words} {a}, or {c} if it is missing.",),
        styles="""
            if '{key}' in {d}:
                return {d}['{key}'] {g.code} {a}
            return {c}

            return {d}['{key}'] {g.code} {a} if '{key}' in {d} else {c}

            if '{key}' not in {d}:
                return {c}
            return {d}['{key}'] {g.code} {a}
        """,
    ),
    family(
        name="entries_if",
        difficulty="medium",
        functions=("{part.name}_{op.name}", "{part.name}_if"),
        arguments={"d": TABLE},
        parameters={
            "part": (Part("sorted keys", "keys", "k"), Part("sorted values", "values", "v")),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("Return the {part.words} of {d} where the value is {op.words} {c}.",),
        styles="""
            return sorted({part.code} for k, v in {d}.items() if v {op.code} {c})

            result = []
            for k, v in {d}.items():
                if v {op.code} {c}:
                    result.append({part.code})
            return sorted(result)
        """,
    ),
    family(
        name="tally",
        difficulty="hard",
        functions=("tally", "tally_{op.name}"),
        arguments={"nums": INTEGERS},
        parameters={"op": COMPARISONS, "c": range(1, 11), "step": range(2, 8)},
        docs=("Map each value in {nums} that is {op.words} {c} to {step} times its count.",),
        styles="""
            result = {{}}
            for v in {nums}:
                if v {op.code} {c}:
                    result[v] = result.get(v, 0) + {step}
            return result

            return {{v: {step} * {nums}.count(v) for v in {nums} if v {op.code} {c}}}
        """,
    ),
    family(
        name="update_key",
        difficulty="medium",
        functions=("update", "change_key"),
        arguments={"d": TABLE},
        parameters={"sign": SIGNS, "a": range(1, 16), "key": KEYS},
        docs=("Set '{key}' in {d} to {a} {sign.words} its old value (0 if missing).",),
        styles="""
            {d}['{key}'] = {a} {sign.code} {d}.get('{key}', 0)
            return {d}

            if '{key}' not in {d}:
                {d}['{key}'] = 0
            {d}['{key}'] = {a} {sign.code} {d}['{key}']
            return {d}
        """,
    ),
)
