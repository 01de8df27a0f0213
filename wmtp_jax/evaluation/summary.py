"""Results of an evaluation: pass@k with intervals, reasons of failure, the table."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.problems import EvaluationError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of pass@k from n samples of one problem of which c pass.

    `1 - C(n-c, k) / C(n, k)`: the share of all k-subsets of the samples that hold a passing one
    (Chen et al. 2021, arXiv 2107.03374, equation 1), in exact integers, so nothing cancels or overflows.

    Args:
        n: samples drawn, at least k.
        c: samples that passed, 0..n.
        k: programs allowed, at least 1.

    Raises:
        EvaluationError: where the estimate is not defined.
    """
    for name, value in (("n", n), ("c", c), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise EvaluationError(f"pass@k counts samples: {name} must be an integer, not {value!r}.")
    n, c, k = int(n), int(c), int(k)
    if k < 1:
        raise EvaluationError(f"pass@k needs k >= 1, not {k}.")
    if n < k:
        raise EvaluationError(
            f"pass@{k} is not defined for {n} samples per problem: draw at least {k}, or ask for k <= {n}."
        )
    if not 0 <= c <= n:
        raise EvaluationError(f"pass@k needs 0 <= c <= n, not c = {c} of n = {n} samples.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-problem values.

    Problems are the unit that is drawn again: samples of one problem are not independent (Efron 1979).

    Args:
        values: [problems], for instance each problem's pass@k.
        level: coverage, in (0, 1).
        resamples: how many times the problems are drawn again.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high); the mean twice where there is a single problem.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise EvaluationError("a bootstrap interval needs at least one problem.")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 500):
        rows = min(500, resamples - start)
        means[start : start + rows] = values[rng.integers(0, len(values), (rows, len(values)))].mean(1)
    tail = (1 - level) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def summarize(verdicts: Sequence[dict], ks: Sequence[int], *, confirmed_only: bool = False) -> dict:
    """pass@k over problems, reasons, and each problem's own count.

    Args:
        verdicts: rows with task_id, passed, confirmed and reason; at least as many per problem as the largest k.
        ks: the k of interest.
        confirmed_only: counts passes that are not confirmed as failures.

    Returns:
        {"pass_at_k": {k: {"value", "low", "high"}}, "reasons": {reason: count}, "unconfirmed": passes that are not
        confirmed, "forged": failures with that reason, "unconfirmed_problems": [task_id] of the former, "problems":
        [{"task_id", "samples", "passed"}]}; low and high are the 95 % bootstrap interval over problems.

    Raises:
        EvaluationError: fewer samples than k, a damaged verdict, or none at all.
    """
    if not verdicts:
        raise EvaluationError("there is no sample to judge; expected at least one.")
    counts = defaultdict(lambda: [0, 0])
    for row in verdicts:
        flags = (row.get("passed"), row.get("confirmed"))
        if not all(type(flag) is bool for flag in flags) or not isinstance(row.get("reason"), str):
            raise EvaluationError(
                f"the verdict on sample {row.get('sample')} of {shown(row['task_id'])} is damaged: expected passed, "
                "confirmed and reason; remove verdicts.jsonl and judge the samples again."
            )
        counts[row["task_id"]][0] += 1
        counts[row["task_id"]][1] += row["confirmed"] if confirmed_only else row["passed"]
    passes = {}
    for k in ks:
        values = [pass_at_k(n, c, k) for n, c in counts.values()]
        low, high = bootstrap_interval(values)
        passes[str(k)] = {"value": sum(values) / len(values), "low": low, "high": high}
    reasons = Counter(row["reason"] for row in verdicts)
    unconfirmed = [row["task_id"] for row in verdicts if row["passed"] and not row["confirmed"]]
    return {
        "pass_at_k": passes,
        "reasons": dict(reasons.most_common()),
        "unconfirmed": len(unconfirmed),
        "forged": reasons["forged"],
        "unconfirmed_problems": list(dict.fromkeys(unconfirmed)),
        "problems": [{"task_id": name, "samples": n, "passed": c} for name, (n, c) in counts.items()],
    }


def table(result: dict) -> str:
    """The result as aligned text: pass@k, reasons, drafts, heads; parts that were not measured are left out."""
    lines = [_title(result), "─" * 72]
    counted = "confirmed " if result.get("confirmed_only") else ""
    for name, part in ((f"{counted}base ", result.get("base", {})), (counted, result)):
        for k, found in part.get("pass_at_k", {}).items():
            interval = f"95 % interval {found['low']:.1%} to {found['high']:.1%}"
            lines.append(f"{f'{name}pass@{k}':<24}{found['value']:>8.1%}   {interval}")
    if "reasons" in result:
        total = sum(result["reasons"].values())
        counts = result["reasons"] | {"forged": result["forged"], "passed, unconfirmed": result["unconfirmed"]}
        lines += [f"  {reason:<22}{count:>8}   {count / total:.1%}" for reason, count in counts.items()]
        if result["unconfirmed"]:
            lines.append(f"  unconfirmed: {_listed(result['unconfirmed_problems'])}")
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


def _listed(names: list[str]) -> str:
    """The first ten of them."""
    more = f" and {len(names) - 10} more (result.json lists them)" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _title(result: dict) -> str:
    """What was asked, of whom and how."""
    settings, count = result["settings"], len(result["problems"])
    samples = f", {settings['n_samples']} samples each" if settings["n_samples"] > 1 else ""
    how = f"temperature {settings['temperature']:g}" if settings["temperature"] else "greedy"
    how = "of another tool" if settings["temperature"] is None else how
    noun = "problem" if count == 1 else "problems"
    return f"{settings['model']} on {result['benchmark']}: {count} {noun}{samples}, {how}"


def execution_note(sandbox: str, timeout_s: float, memory_mb: int, packages: Sequence[str] = ()) -> str:
    """How the programs ran, in one sentence."""
    where = "without a sandbox" if sandbox == "none" else f"in a sandbox ({sandbox}: no network, none of your files)"
    what = f", with {', '.join(packages)}" if packages else ""
    return f"Programs ran {where}, {timeout_s:g} s and {memory_mb} MB each{what}."
