"""Runs the generator's own programs in this process, with a bound on the number of loop rounds.

Not for programs of a model: those go to `wmtp_jax.sandbox`.
"""

import copy
import re
from typing import Any

MAX_ROUNDS = 5_000  # more than any program of a family needs
_LOOP = re.compile(r"^( *)(?:for|while) .*:$", re.MULTILINE)


class BoundedProgram:
    """A compiled function of the generator, from the text of its definition; a loop's head has a line of its own.

    Attributes:
        endless: whether a call was stopped by the bound.
    """

    def __init__(self, source: str, entry_point: str):
        self.endless = False
        self._rounds = 0
        namespace: dict[str, Any] = {"_count_round": self._count_round}
        exec(_LOOP.sub(r"\g<0>\n\1    _count_round()", source), namespace)
        self._function = namespace[entry_point]

    def _count_round(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            self.endless = True
            raise RuntimeError("the loops do not come to an end")

    def __call__(self, *args: Any) -> Any:
        """The result for these flat arguments, which are left as they are; raises whatever the program raises."""
        self._rounds = 0
        return self._function(*map(copy.copy, args))

    def returns(self, args: tuple[Any, ...], expected: Any) -> bool:
        """Whether `assert f(*args) == expected` would hold."""
        try:
            return bool(self(*args) == expected)
        except Exception:
            return False
