"""Families whose natural solution is a loop over numbers."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, PLUS, SIGNS, TIMES, Aggregate, Family, Values
from wmtp_jax.microcode.inputs import COUNT, INTEGERS, LONG_LIST, NATURAL, integer

family = partial(Family, topic="loops")

# Whether the last number of a range belongs to it: the test of a rising and of a falling loop.
Last = namedtuple("Last", "words included rising falling")
LASTS = (Last("included", True, "<=", ">="), Last("excluded", False, "<", ">"))


def _range_stop(values: Values) -> Values:
    return {"stop": f"{values['n']} + 1" if values["last"].included else values["n"]}


def _countdown_stop(values: Values) -> Values:
    return {"stop": values["c"] - values["last"].included}


FAMILIES = (
    family(
        name="range_total",
        difficulty="medium",
        functions=("{total.name}_multiples", "multiples"),
        arguments={"n": NATURAL},
        parameters={
            "total": (Aggregate("Count", "count", "1"), Aggregate("Add up", "sum", "i")),
            "k": range(2, 11),
            "start": range(1, 7),
            "last": LASTS,
        },
        docs=("{total.words} the multiples of {k} from {start} to {n}, {n} {last.words}.",),
        styles="""
            return sum({total.item} for i in range({start}, {stop}) if i % {k} == 0)

            total = 0
            for i in range({start}, {stop}):
                if i % {k} == 0:
                    total += {total.item}
            return total

            i = {start}
            total = 0
            while i {last.rising} {n}:
                if i % {k} == 0:
                    total += {total.item}
                i += 1
            return total
        """,
        derive=_range_stop,
    ),
    family(
        name="countdown",
        difficulty="medium",
        functions=("countdown", "count_down"),
        arguments={"n": NATURAL},
        parameters={"c": range(1, 12), "last": LASTS, "k": range(2, 11)},
        docs=("List the numbers from {n} down to {c}, {c} {last.words}, in steps of {k}.",),
        styles="""
            return list(range({n}, {stop}, -{k}))

            result = []
            while {n} {last.falling} {c}:
                result.append({n})
                {n} -= {k}
            return result
        """,
        derive=_countdown_stop,
    ),
    family(
        name="grow",
        difficulty="medium",
        functions=("count_steps", "steps_{op.name}"),
        arguments={"x": integer(1, 90, (1, 2, 10))},
        parameters={
            "growth": (PLUS._replace(words="increased by"), TIMES._replace(words="multiplied by")),
            "k": range(2, 10),
            "op": COMPARISONS[2:],
            "c": range(20, 101, 10),
        },
        docs=("Count how often {x} can be {growth.words} {k} while it is {op.words} {c}.",),
        styles="""
            steps = 0
            while {x} {op.code} {c}:
                {x} {growth.code}= {k}
                steps += 1
            return steps

            steps = 0
            while True:
                if {x} {op.negation} {c}:
                    return steps
                {x} {growth.code}= {k}
                steps += 1
        """,
    ),
    family(
        name="add_until",
        difficulty="medium",
        functions=("add_until", "sum_until"),
        arguments={"nums": INTEGERS},
        parameters={"start": range(0, 8), "op": COMPARISONS[:2], "c": range(10, 31)},
        docs=("Start at {start}, add the values of {nums} and stop once the total is {op.words} {c}.",),
        styles="""
            total = {start}
            for v in {nums}:
                total += v
                if total {op.code} {c}:
                    break
            return total

            total = {start}
            for v in {nums}:
                if total {op.negation} {c}:
                    total += v
            return total
        """,
    ),
    family(
        name="recurrence",
        difficulty="medium",
        functions=("iterate", "repeat_step"),
        arguments={"n": COUNT},
        parameters={"start": range(1, 10), "m": (2, 3, 4), "sign": SIGNS, "b": range(1, 10)},
        docs=("Start at {start} and do {n} times: multiply by {m}, {sign.verb} {b}.",),
        styles="""
            total = {start}
            for _ in range({n}):
                total = total * {m} {sign.code} {b}
            return total

            total = {start}
            while {n} > 0:
                total = total * {m} {sign.code} {b}
                {n} -= 1
            return total
        """,
    ),
    family(
        name="count_pairs",
        difficulty="hard",
        functions=("count_pairs", "pairs_{op.name}"),
        arguments={"nums": INTEGERS},
        parameters={
            "pairing": (PLUS._replace(words="sum"), TIMES._replace(words="product")),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("Count the pairs of values in {nums} whose {pairing.words} is {op.words} {c}.",),
        styles="""
            total = 0
            for i in range(len({nums})):
                for j in range(i):
                    if {nums}[i] {pairing.code} {nums}[j] {op.code} {c}:
                        total += 1
            return total

            total = 0
            for i, v in enumerate({nums}):
                for w in {nums}[:i]:
                    if v {pairing.code} w {op.code} {c}:
                        total += 1
            return total
        """,
    ),
    family(
        name="look_back",
        difficulty="hard",
        functions=("look_back", "differences"),
        arguments={"nums": LONG_LIST},
        parameters={"a": range(2, 16), "sign": SIGNS, "k": range(2, 7)},
        docs=("For each value of {nums} return {a} times it {sign.words} the value {k} places before.",),
        styles="""
            return [{a} * {nums}[i] {sign.code} {nums}[i - {k}] for i in range({k}, len({nums}))]

            result = []
            for i in range({k}, len({nums})):
                result.append({a} * {nums}[i] {sign.code} {nums}[i - {k}])
            return result

            return [{a} * v {sign.code} w for v, w in zip({nums}[{k}:], {nums})]
        """,
    ),
)
