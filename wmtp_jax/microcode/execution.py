"""Runs the generator's own programs in this process, with a bound on the number of loop rounds.

Not for programs of a model: those go to `wmtp_jax.sandbox`.
"""

import ast
import copy
from typing import Any

MAX_ROUNDS = 5_000  # more than any program of a family needs
_TICK = "_tick"


class _CountRounds(ast.NodeTransformer):
    """Puts a call that counts at the head of every loop."""

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(ast.Call(ast.Name(_TICK, ast.Load()), [], [])))
        return node

    visit_For = visit_While  # noqa: N815


class BoundedProgram:
    """A compiled function of the generator, from the text of its definition.

    Attributes:
        endless: whether a call was stopped by the bound.
    """

    def __init__(self, source: str, entry_point: str):
        tree = ast.fix_missing_locations(_CountRounds().visit(ast.parse(source)))
        self.endless = False
        self._rounds = 0
        namespace: dict[str, Any] = {_TICK: self._tick}
        exec(compile(tree, entry_point, "exec"), namespace)
        self._function = namespace[entry_point]

    def _tick(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            self.endless = True
            raise RuntimeError("the loops do not come to an end")

    def __call__(self, *args: Any) -> Any:
        """The result for these arguments, which are left as they are; raises whatever the program raises."""
        self._rounds = 0
        return self._function(*copy.deepcopy(args))

    def returns(self, args: tuple[Any, ...], expected: Any) -> bool:
        """Whether `assert f(*args) == expected` would hold."""
        try:
            return bool(self(*args) == expected)
        except Exception:
            return False
