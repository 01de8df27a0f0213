"""Says in plain words when weights or critic have stopped meaning anything."""

from collections.abc import Mapping

_LEAST_EFFECTIVE_SHARE = 0.1
_MOST_POSITION_CORRELATION = 0.8


def collapse_warnings(
    metrics: Mapping[str, float],
    *,
    least_effective_share: float = _LEAST_EFFECTIVE_SHARE,
    most_position_correlation: float = _MOST_POSITION_CORRELATION,
) -> list[str]:
    """Reads the logged metrics as a person would.

    Args:
        metrics: by name; those absent are not judged. effective_sample_share and weight_position_correlation as in
            `weight_metrics`; value_auc with its interval's lower end value_auc_low; untrained_auc, the AUC of
            `untrained_score` on the same solutions.
        least_effective_share: effective sample size below this share of the tokens is a warning.
        most_position_correlation: correlation of weight and position beyond this, in either direction, is one.

    Returns:
        One sentence per warning, the gravest first; empty when all is well.
    """
    warnings = []
    share = metrics.get("effective_sample_share")
    if share is not None and share < least_effective_share:
        warnings.append(
            f"The weights have collapsed: they act as if only {share:.1%} of the tokens were there "
            f"(warning below {least_effective_share:.0%}). Raise the temperature or the entropy floor, or narrow "
            "the clip."
        )
    correlation = metrics.get("weight_position_correlation")
    if correlation is not None and abs(correlation) > most_position_correlation:
        side = "late" if correlation > 0 else "early"
        warnings.append(
            f"The weights follow position: their correlation with the place in the response is {correlation:+.2f}, so "
            f"{side} tokens are favoured whatever they say. Bring lambda nearer to 1 or train the critic longer."
        )
    auc, low, untrained = (metrics.get(name) for name in ("value_auc", "value_auc_low", "untrained_auc"))
    if low is not None and low <= 0.5:
        shown = f"{low:.3f}" if auc is None else f"{auc:.3f}, interval from {low:.3f}"
        warnings.append(
            f"The critic is no better than chance at telling correct from incorrect solutions (AUC {shown}): "
            "its weights are noise. Train it longer, on more problems, or give it the surprise features."
        )
    if auc is not None and untrained is not None and untrained >= (auc if low is None else low):
        interval = "" if low is None else f", interval from {low:.3f}"
        warnings.append(
            f"The critic (AUC {auc:.3f}{interval}) does not clearly beat the untrained score, the policy's largest "
            f"surprise (AUC {untrained:.3f}): what it has learned beyond what the policy knew is not shown here."
        )
    return warnings
