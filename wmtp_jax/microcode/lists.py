"""Families on lists of integers."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, SIGNS, Aggregate, Family, Values
from wmtp_jax.microcode.inputs import INTEGERS, LONG_LIST

family = partial(Family, topic="lists")

Selection = namedtuple("Selection", "words name keep")  # keeping or removing
Pick = namedtuple("Pick", "words left right")  # one value of a list: what stands before and after the list's name
Order = namedtuple("Order", "words suffix")  # reading forwards or backwards
End = namedtuple("End", "words left right index")  # the first or the last of several
Quantifier = namedtuple("Quantifier", "code early")  # the built-in, and what a loop returns early


def _keep(values: Values) -> Values:
    op = values["op"]
    kept, dropped = (op.code, op.negation) if values["selection"].keep else (op.negation, op.code)
    return {"kept": kept, "dropped": dropped}


def _loop(values: Values) -> Values:
    op, early = values["op"], values["quantifier"].early
    return {"found": op.code if early else op.negation, "late": not early}


FAMILIES = (
    family(
        name="total_if",
        difficulty="easy",
        functions=("{total.name}_{op.name}", "{total.name}_if"),
        arguments={"nums": INTEGERS},
        parameters={
            "total": (Aggregate("Count", "count", "1"), Aggregate("Add up", "sum", "v")),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("{total.words} the values in {nums} that are {op.words} {c}.",),
        styles="""
            return sum({total.item} for v in {nums} if v {op.code} {c})

            total = 0
            for v in {nums}:
                if v {op.code} {c}:
                    total += {total.item}
            return total

            total = 0
            for v in {nums}:
                if v {op.negation} {c}:
                    continue
                total += {total.item}
            return total
        """,
    ),
    family(
        name="select",
        difficulty="easy",
        functions=("{selection.name}_{op.name}", "select"),
        arguments={"nums": INTEGERS},
        parameters={
            "selection": (Selection("Keep", "keep", True), Selection("Remove", "drop", False)),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("{selection.words} the values in {nums} that are {op.words} {c}.",),
        styles="""
            return [v for v in {nums} if v {kept} {c}]

            result = []
            for v in {nums}:
                if v {kept} {c}:
                    result.append(v)
            return result

            return list(filter(lambda v: v {kept} {c}, {nums}))
        """,
        derive=_keep,
    ),
    family(
        name="map_linear",
        difficulty="easy",
        functions=("scale_all", "map_values"),
        arguments={"nums": INTEGERS},
        parameters={"a": range(2, 12), "sign": SIGNS, "b": range(1, 12)},
        docs=("Return a list with {a} times each value of {nums} {sign.words} {b}.",),
        styles="""
            return [{a} * v {sign.code} {b} for v in {nums}]

            result = []
            for v in {nums}:
                result.append({a} * v {sign.code} {b})
            return result
        """,
    ),
    family(
        name="replace_if",
        difficulty="medium",
        functions=("replace_{op.name}", "replace_if"),
        arguments={"nums": INTEGERS},
        parameters={"op": COMPARISONS, "c": range(1, 13), "r": range(0, 10)},
        docs=("Replace each value in {nums} that is {op.words} {c} by {r}.",),
        styles="""
            return [{r} if v {op.code} {c} else v for v in {nums}]

            result = []
            for v in {nums}:
                result.append({r} if v {op.code} {c} else v)
            return result

            return [v if v {op.negation} {c} else {r} for v in {nums}]
        """,
    ),
    family(
        name="pick_or_default",
        difficulty="medium",
        functions=("pick_{pick.words}", "{pick.words}_or"),
        arguments={"nums": INTEGERS},
        parameters={
            "pick": (
                Pick("largest", "max(", ")"),
                Pick("smallest", "min(", ")"),
                Pick("first", "", "[0]"),
                Pick("last", "", "[-1]"),
            ),
            "a": range(2, 10),
            "d": range(0, 10),
        },
        docs=("Return the {pick.words} value of {nums} times {a}, or {d} if it is empty.",),
        styles="""
            if not {nums}:
                return {d}
            return {pick.left}{nums}{pick.right} * {a}

            return {pick.left}{nums}{pick.right} * {a} if {nums} else {d}

            if len({nums}) > 0:
                return {pick.left}{nums}{pick.right} * {a}
            return {d}
        """,
    ),
    family(
        name="take_every",
        difficulty="medium",
        functions=("take_every", "stride"),
        arguments={"nums": LONG_LIST},
        parameters={
            "i": range(0, 8),
            "k": range(2, 10),
            "order": (Order("", ""), Order(", in reverse", "[::-1]")),
        },
        docs=("Return the values of {nums} from index {i} on in steps of {k}{order.words}.",),
        styles="""
            return {nums}[{i}::{k}]{order.suffix}

            return [{nums}[i] for i in range({i}, len({nums}), {k})]{order.suffix}

            result = []
            for i in range({i}, len({nums}), {k}):
                result.append({nums}[i])
            return result{order.suffix}
        """,
    ),
    family(
        name="find_index",
        difficulty="medium",
        functions=("find_{end.words}", "index_{end.words}"),
        arguments={"nums": INTEGERS},
        parameters={
            "end": (End("first", "", "", 0), End("last", "reversed(", ")", -1)),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("Return the index of the {end.words} value in {nums} that is {op.words} {c}, or -1.",),
        styles="""
            for i in {end.left}range(len({nums})){end.right}:
                if {nums}[i] {op.code} {c}:
                    return i
            return -1

            found = [i for i, v in enumerate({nums}) if v {op.code} {c}]
            return found[{end.index}] if found else -1
        """,
    ),
    family(
        name="quantify",
        difficulty="easy",
        functions=("{quantifier.code}_{op.name}", "check_{quantifier.code}"),
        arguments={"nums": INTEGERS},
        parameters={
            "quantifier": (Quantifier("any", True), Quantifier("all", False)),
            "op": COMPARISONS,
            "c": range(1, 21),
        },
        docs=("Return True if {quantifier.code} of the values in {nums} are {op.words} {c}.",),
        styles="""
            return {quantifier.code}(v {op.code} {c} for v in {nums})

            for v in {nums}:
                if v {found} {c}:
                    return {quantifier.early}
            return {late}
        """,
        derive=_loop,
    ),
)
