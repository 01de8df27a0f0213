"""What decides how much each target token counts: one file per objective.

A new way of weighting is a new file with a subclass of `Objective`, a line here, and a config. OBJECTIVES maps each
name to module.Class, so that a config can be checked without importing jax.
"""

import importlib

OBJECTIVES = {
    "baseline": "baseline.Baseline",
    "given": "given.Given",
    "rho1": "rho1.Rho1",
    "verifiable": "verifiable.Verifiable",
}


def objective_class(name: str) -> type:
    """The subclass of `Objective` behind one of OBJECTIVES' names."""
    module, _, attribute = OBJECTIVES[name].partition(".")
    return getattr(importlib.import_module(f"wmtp_jax.objectives.{module}"), attribute)
