"""Families on strings."""

from collections import namedtuple
from functools import partial

from wmtp_jax.microcode.family import COMPARISONS, Family, Values
from wmtp_jax.microcode.inputs import LONG_TEXT, SENTENCE, TEXT

family = partial(Family, topic="strings")

LETTERS = tuple("abcdeghiklmnoprst")
MARKS = tuple("!*#-+.")

Side = namedtuple("Side", "words name method left")  # of a string, with the method that pads there
Cut = namedtuple("Cut", "words name before after")  # a piece at one end: what stands around its length in the slice
Change = namedtuple("Change", "words code")  # made to a word


def _sides(values: Values) -> Values:
    """The operands of the sum that puts a mark, or several at once, on one side of the string."""
    name, mark, left = values["s"], f"'{values['mark']}'", values["side"].left
    block = f"{mark} * {values['k']}"
    return {
        "whole": f"{block} + {name}" if left else f"{name} + {block}",
        "one": f"{mark} + {name}" if left else f"{name} + {mark}",
        "named": f"mark + {name}" if left else f"{name} + mark",
    }


FAMILIES = (
    family(
        name="count_letters",
        difficulty="easy",
        functions=("count_letters", "count_both"),
        arguments={"s": LONG_TEXT},
        parameters={"a": LETTERS, "b": LETTERS},
        docs=("Count the letters '{a}' and '{b}' in {s}.",),
        styles="""
            return {s}.count('{a}') + {s}.count('{b}')

            total = 0
            for ch in {s}:
                if ch == '{a}' or ch == '{b}':
                    total += 1
            return total

            return sum(1 for ch in {s} if ch in '{a}{b}')
        """,
        valid=lambda values: values["a"] < values["b"],
    ),
    family(
        name="replace_letter",
        difficulty="easy",
        functions=("replace_letter", "swap_letter"),
        arguments={"s": TEXT},
        parameters={"a": LETTERS, "b": LETTERS},
        docs=("Replace each '{a}' in {s} by '{b}'.",),
        styles="""
            return {s}.replace('{a}', '{b}')

            return ''.join('{b}' if ch == '{a}' else ch for ch in {s})

            result = ''
            for ch in {s}:
                result += '{b}' if ch == '{a}' else ch
            return result
        """,
        valid=lambda values: values["a"] != values["b"],
    ),
    family(
        name="affix",
        difficulty="easy",
        functions=("add_{side.name}", "mark"),
        arguments={"s": TEXT},
        parameters={
            "k": range(2, 18),
            "mark": MARKS,
            "side": (Side("before", "prefix", "rjust", True), Side("after", "suffix", "ljust", False)),
        },
        docs=("Put {k} times '{mark}' {side.words} {s}.",),
        styles="""
            return {whole}

            mark = '{mark}' * {k}
            return {named}

            for _ in range({k}):
                {s} = {one}
            return {s}
        """,
        derive=_sides,
    ),
    family(
        name="pad",
        difficulty="medium",
        functions=("pad", "pad_{side.words}"),
        arguments={"s": TEXT},
        parameters={
            "side": (Side("left", "left", "rjust", True), Side("right", "right", "ljust", False)),
            "mark": MARKS,
            "k": range(4, 17),
        },
        docs=("Pad {s} on the {side.words} with '{mark}' to length {k}.",),
        styles="""
            return {s}.{side.method}({k}, '{mark}')

            while len({s}) < {k}:
                {s} = {one}
            return {s}
        """,
        derive=_sides,
    ),
    family(
        name="change_words",
        difficulty="medium",
        functions=("change_words", "words_{op.name}"),
        arguments={"s": SENTENCE},
        parameters={
            "change": (
                Change("in upper case", ".upper()"),
                Change("reversed", "[::-1]"),
                Change("capitalized", ".capitalize()"),
                Change("doubled", " * 2"),
            ),
            "op": COMPARISONS,
            "k": range(2, 12),
        },
        docs=("Return the words of {s} with length {op.words} {k}, {change.words}.",),
        styles="""
            return [w{change.code} for w in {s}.split() if len(w) {op.code} {k}]

            result = []
            for w in {s}.split():
                if len(w) {op.code} {k}:
                    result.append(w{change.code})
            return result
        """,
    ),
    family(
        name="cut",
        difficulty="medium",
        functions=("cut", "{cut.name}"),
        arguments={"s": LONG_TEXT},
        parameters={
            "cut": (
                Cut("the first {k} characters", "head", ":", ""),
                Cut("the last {k} characters", "tail", "-", ":"),
                Cut("all but the first {k} characters", "skip", "", ":"),
                Cut("all but the last {k} characters", "trim", ":-", ""),
            ),
            "k": range(1, 10),
            "mark": MARKS,
        },
        docs=("Return {piece} of {s} and then '{mark}'.",),
        styles="""
            return {s}[{cut.before}{k}{cut.after}] + '{mark}'

            part = {s}[{cut.before}{k}{cut.after}]
            return part + '{mark}'
        """,
        derive=lambda values: {"piece": values["cut"].words.format(k=values["k"])},
    ),
)
