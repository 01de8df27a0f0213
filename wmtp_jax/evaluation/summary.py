"""Results of an evaluation: pass@k with intervals, reasons of failure, the table."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.passing import bootstrap_interval, pass_at_k


def summarize(verdicts: Sequence[dict], ks: Sequence[int]) -> dict:
    """pass@k over problems, reasons, and each problem's own count.

    Args:
        verdicts: rows with task_id, passed and reason; as many per problem as samples.
        ks: the k of interest.

    Returns:
        {"pass_at_k": {k: {"value", "low", "high"}}, "reasons": {reason: count}, "problems": [{"task_id", "samples",
        "passed"}]}; low and high are the 95 % bootstrap interval over problems.

    Raises:
        EvaluationError: fewer samples than k, a damaged verdict, or none at all.
    """
    if not verdicts:
        raise EvaluationError("there is no sample to judge; expected at least one.")
    counts = defaultdict(lambda: [0, 0])
    for row in verdicts:
        if type(row.get("passed")) is not bool or not isinstance(row.get("reason"), str):
            raise EvaluationError(
                f"the verdict on sample {row.get('sample')} of {shown(row['task_id'])} is damaged: expected passed and "
                "reason; remove verdicts.jsonl and judge the samples again."
            )
        counts[row["task_id"]][0] += 1
        counts[row["task_id"]][1] += row["passed"]
    passes = {}
    for k in ks:
        values = [pass_at_k(n, c, k) for n, c in counts.values()]
        low, high = bootstrap_interval(values)
        passes[str(k)] = {"value": sum(values) / len(values), "low": low, "high": high}
    return {
        "pass_at_k": passes,
        "reasons": dict(Counter(row["reason"] for row in verdicts).most_common()),
        "problems": [{"task_id": name, "samples": n, "passed": c} for name, (n, c) in counts.items()],
    }


def table(result: dict) -> str:
    """The result as aligned text: pass@k, reasons, drafts, heads; parts that were not measured are left out."""
    lines = [_title(result), "─" * 72]
    for k, found in result.get("pass_at_k", {}).items():
        lines.append(
            f"{'pass@' + k:<24}{found['value']:>8.1%}   95 % interval {found['low']:.1%} to {found['high']:.1%}"
        )
    if "reasons" in result:
        total = sum(result["reasons"].values())
        lines += [f"  {reason:<22}{count:>8}   {count / total:.1%}" for reason, count in result["reasons"].items()]
    if "tokens_per_forward" in result:
        lines.append(f"{'tokens per forward':<24}{result['tokens_per_forward']:>8.2f}")
    for head, share in enumerate(result.get("acceptance", []), start=2):
        lines.append(f"{f'draft of head {head} kept':<24}{share:>8.1%}")
    heads = result.get("heads", {})
    if heads:
        title = f"on {result['heads_solutions']} known solutions"
        lines.append(f"{title:<24}{'loss':>8}{'perplexity':>12}{'top-1':>8}{'top-5':>8}")
        n_heads = sum(name.startswith("loss_head_") for name in heads)
        for k in range(1, n_heads + 1):
            loss, perplexity, top1, top5 = (
                heads[f"{name}_head_{k}"] for name in ("loss", "perplexity", "top1", "top5")
            )
            lines.append(f"{f'head {k}':<24}{loss:>8.3f}{perplexity:>12.2f}{top1:>8.1%}{top5:>8.1%}")
    if "execution" in result:
        lines.append(execution_note(**result["execution"]))
    return "\n".join(lines)


def _title(result: dict) -> str:
    """What was asked, of whom and how."""
    settings, count = result["settings"], len(result["problems"])
    samples = f", {settings['n_samples']} samples each" if settings["n_samples"] > 1 else ""
    how = f"temperature {settings['temperature']:g}" if settings["temperature"] else "greedy"
    noun = "problem" if count == 1 else "problems"
    return f"{settings['model']} on {result['benchmark']}: {count} {noun}{samples}, {how}"


def execution_note(sandbox: str, timeout_s: float, memory_mb: int) -> str:
    """How the programs ran, in one sentence."""
    where = "without a sandbox" if sandbox == "none" else f"in a sandbox ({sandbox}: no network, none of your files)"
    return f"Programs ran {where}, {timeout_s:g} s and {memory_mb} MB each."
