"""Given: the weights come with the data, as spans of characters of each record's output.

A record may carry `"weights": [[begin, end, weight], ...]`. A token weighs the mean over its characters; characters
outside all spans, and the end-of-document token, weigh 1.
"""

import jax.numpy as jnp

from wmtp_jax.objectives.objective import Objective, ObjectiveError


class Given(Objective):
    """w = the batch's `weights`."""

    clips_weights = False

    def prepare(self, train, labelled, tokenizer, workdir):
        """Refuses data without any weights."""
        if not train.has_weights:
            raise ObjectiveError(
                f"{self.config.data.train}: no record has weights; give some records the field "
                '"weights": [[begin, end, weight], ...] over the characters of their output, or take '
                "configs/baseline.py"
            )
        return train, labelled

    def weights(self, batch, scores, mask_BxS, statistics):
        """See `Objective.weights`."""
        return jnp.where(mask_BxS, batch["weights"], 0.0), statistics, {}
