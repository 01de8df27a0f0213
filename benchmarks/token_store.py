"""Large data in training: first use and later openings of 3.7 million records, and the start of each way of sampling.

    python benchmarks/token_store.py --out token_store.json                    # needs 15 GB of disk; about 20 minutes
    python benchmarks/token_store.py --records 50000 --out token_store.json    # a smoke run

1. First use: `load_examples` of a .jsonl file in a process of its own, beside `for line in file: json.loads(line)` over
   the first records of the same file on one core. Reported: seconds, records per second, bytes of the store, and the
   peak of resident memory over the process and its workers. Aim: peak < 1 GB.
2. Later: each line of the table is a process of its own that opens the file, starts a stream (`make_batches`) and
   takes 20 batches of 64 records. Opening: < 1 s; opening to first batch: < 20 s; resident memory to the last batch:
   < 500 MB, of which the interpreter with its libraries has about 200 MB.

Labels, lengths and problems are distributed as in CodeContests: 13,000 problems with a statement of about 1,800
characters each, solutions of log-normal length, about 700 characters; the texts are cut from Python's standard library.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np
import psutil

AIMS = {"first_use_bytes": 1e9, "open_s": 1.0, "start_s": 20.0, "peak_bytes": 500e6}
PROBLEMS, BATCHES, BATCH_SIZE = 13_000, 20, 64
BUCKETS = (512, 1024, 2048)
PARSED = 200_000
WAYS = {
    "first use": {},
    "in turn": {},
    "half correct": {"correct_ratio": 0.5},
    "pairs": {"pairs": True},
    "pairs of like length": {"pairs": True, "length_balanced": True},
    "by difficulty": {"difficulty_weights": {"D0": 0.5, "D3": 3.0}},
}
TOKENIZER = Path(__file__).parents[1] / "storage" / "models_v2" / "micro-mtp"


def write_records(path: Path, n: int) -> None:
    """A file of records, the solutions of a problem one after the other."""
    rng = np.random.default_rng(0)
    library = Path(sysconfig.get_path("stdlib"))
    source = "".join(file.read_text(encoding="utf-8") for file in sorted(library.glob("*.py")))

    def text(length: int) -> str:
        begin = source.index("\n", int(rng.integers(len(source) - length - 1000))) + 1
        return source[begin : begin + length]

    of_problem = np.bincount(rng.integers(0, PROBLEMS, n), minlength=PROBLEMS)
    with open(path, "w", encoding="utf-8") as file:
        for problem, n_solutions in enumerate(of_problem.tolist()):
            head = f'{{"instruction": {json.dumps(text(1800))}, "input": "", "output": '
            lengths = np.clip(rng.lognormal(6.2, 0.8, n_solutions), 20, 3000).astype(int).tolist()
            for i, (length, is_correct) in enumerate(zip(lengths, rng.random(n_solutions) < 0.475, strict=True)):
                label, flag = ("correct", "true") if is_correct else ("incorrect", "false")
                metadata = f'{{"source": "codecontests", "difficulty": "D{problem % 5}", "has_tests": true}}'
                file.write(
                    f'{head}{json.dumps("x" + text(length))}, "task_id": "{problem}_{label}_{i}", '
                    f'"is_correct": {flag}, "metadata": {metadata}}}\n'
                )


def parse_only(path: Path) -> float:
    """Records per second of the plain loop, on one core."""
    n, began = 0, time.perf_counter()
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)
            n += 1
            if n == PARSED:
                break
    return n / (time.perf_counter() - began)


def sample(path: Path, way: str) -> dict:
    """Opens, starts and takes batches; in a process of its own."""
    import grain  # noqa: F401  (the streams' library, which brings jax: its import is no part of opening)

    from wmtp_jax.data import Sampling, load_examples, load_tokenizer, make_batches

    tokenizer = load_tokenizer(TOKENIZER)
    process, peak, ended = psutil.Process(), [0], threading.Event()

    def resident() -> int:
        total = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], resident())

    libraries = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    examples = load_examples(path, tokenizer, template="raw", max_length=2048, policy_samples="all")
    opened = time.perf_counter()
    found = {"open_s": opened - began, "libraries_bytes": libraries}
    if way == "first use":
        directory = examples.store.directory
        found["disk_bytes"] = sum(file.stat().st_size for file in directory.iterdir())
        found["kept"] = len(examples)
    else:
        sampling = Sampling(**WAYS[way]) if WAYS[way] else None
        batches = make_batches(examples, batch_size=BATCH_SIZE, seed=0, buckets=BUCKETS, sampling=sampling)
        next(batches)
        started = time.perf_counter()
        shares = [np.mean(next(batches)["segment_ids"] > 0) for _ in range(BATCHES - 1)]
        found["rows_per_s"] = BATCH_SIZE * (BATCHES - 1) / (time.perf_counter() - started)
        found |= {"start_s": started - began, "filled_share": float(np.mean(shares))}
        batches.close()
    ended.set()
    watcher.join()
    return found | {"peak_bytes": peak[0]}


def main() -> int:
    """One table, one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("token_store.json"))
    parser.add_argument("--records", type=int, default=3_700_000)
    parser.add_argument("--workdir", type=Path, default=Path("token_store_benchmark"), help="kept for the next run")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.workdir / f"records-{arguments.records}.jsonl"
    if arguments.way:
        print(json.dumps(sample(path, arguments.way)))
        return 0
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_records(path, arguments.records)
    environment = os.environ | {"XDG_CACHE_HOME": str(arguments.workdir / "cache")}
    size, plain, found = path.stat().st_size, parse_only(path), {}
    print(f"{arguments.records:,} records, {size / 1e6:,.0f} MB; json.loads alone: {plain:,.0f} records/s on one core")
    print(f"{'':<22}{'open s':>9}{'start s':>9}{'rows/s':>9}{'filled':>9}{'peak MB':>9}{'libraries MB':>14}")
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--records", str(arguments.records)]
        command += ["--workdir", str(arguments.workdir)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        row = found[way] = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{way:<22}{row['open_s']:>9.2f}"]
        cells += [
            f"{row[name]:>9.2f}" if name in row else " " * 9 for name in ("start_s", "rows_per_s", "filled_share")
        ]
        print("".join(cells) + f"{row['peak_bytes'] / 1e6:>9.0f}{row['libraries_bytes'] / 1e6:>14.0f}", flush=True)
    first, later = found["first use"], [row for way, row in found.items() if way != "first use"]
    speed = arguments.records / first["open_s"]
    print(
        f"first use: {speed:,.0f} records/s on {os.cpu_count()} cores, {speed / plain:.2f} of json.loads on one; "
        f"store {first['disk_bytes'] / 1e6:,.0f} MB"
    )
    reached = {"first_use_bytes": first["peak_bytes"]}
    reached |= {name: max(row[name] for row in later) for name in ("open_s", "start_s", "peak_bytes")}
    for name, aim in AIMS.items():
        print(f"{name}: {reached[name]:,.2f} (aim < {aim:,.0f})")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "records": arguments.records,
        "bytes": size,
        "parse_only_records_per_s": plain,
        "ways": found,
        "aims": {name: {"value": reached[name], "aim": aim} for name, aim in AIMS.items()},
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
