"""Baseline: every target token counts the same."""

from wmtp_jax.objectives.objective import Objective
from wmtp_jax.weighting import uniform_weights


class Baseline(Objective):
    """w = 1."""

    shows_weights = False

    def weights(self, batch, scores, mask_BxS, statistics):
        """See `Objective.weights`."""
        return uniform_weights(mask_BxS), statistics, {}
