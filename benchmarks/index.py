"""Large data in training: building an index, opening it, and starting each way of sampling on 3.7 million records.

    python benchmarks/index.py --out index.json                       # 3.7 million records; about 12 minutes on 2 cores
    python benchmarks/index.py --rows 100000 --out index.json         # a smoke run

1. Building the index of a foreign JSONL file (records of CodeContests' size) against `for line in file:
   json.loads(line)` over the same file, in turns, one core each; the median round counts. Aim >= 0.8 of its speed.
2. A file of 3.7 million records with the index and the token counts that a set-up leaves beside it. Each line of the
   table is a process of its own: it opens the file (`load_examples`), starts a stream (`make_batches`) and takes 20
   batches of 64 records, which are read and encoded from the file. Opening: < 2 s; opening to first batch: < 20 s;
   resident memory to the last batch: < 500 MB, of which the interpreter with its libraries has about 200 MB.

The records' texts are short here so that the file fits on a small disk; the index does not know the difference. Labels,
lengths and problems are distributed as in CodeContests: 13,000 problems, log-normal lengths up to 2048 tokens.
"""

import argparse
import array
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil

AIM_BUILD, AIM_OPEN_S, AIM_START_S, AIM_BYTES = 0.8, 2.0, 20.0, 500e6
PROBLEMS, BATCHES, BATCH_SIZE = 13_000, 20, 64
BUCKETS = (512, 1024, 2048)
WAYS = {
    "in turn": {},
    "half correct": {"correct_ratio": 0.5},
    "pairs": {"pairs": True},
    "pairs of like length": {"pairs": True, "length_balanced": True},
    "by difficulty": {"difficulty_weights": {"D0": 0.5, "D3": 3.0}},
}
TOKENIZER = Path(__file__).parents[1] / "storage" / "models_v2" / "micro-mtp"


def build_rounds(workdir: Path, rounds: int) -> dict:
    """CPU seconds of the plain loop and of the index, in turns."""
    from wmtp_jax.data.index import build_index

    path = workdir / "foreign.jsonl"
    if not path.exists():
        rng = np.random.default_rng(0)
        letters = np.array(list("etaoin shrdlu\n    =():x1"))
        text = lambda n: "".join(rng.choice(letters, n))
        with open(path, "w", encoding="utf-8") as file:
            for problem in range(150):
                instruction = text(1800)
                for i in range(280):
                    metadata = {"source": "codecontests", "difficulty": f"D{problem % 5}", "has_tests": True}
                    record = {"instruction": instruction, "input": "", "output": text(700)}
                    label = {"task_id": f"{problem}_A. Problem_correct_{i}", "is_correct": i % 2 == 0}
                    file.write(json.dumps(record | label | {"metadata": metadata}) + "\n")

    def plain() -> None:
        with open(path, "rb") as file:
            for line in file:
                json.loads(line)

    found = {"plain loop": [], "index": []}
    for _ in range(rounds):
        for name, run in (("plain loop", plain), ("index", lambda: build_index(path))):
            began = time.process_time()
            run()
            found[name].append(time.process_time() - began)
    return {"bytes": path.stat().st_size, "rows": 150 * 280, "cpu_seconds": found}


def make_large(path: Path, rows: int) -> None:
    """The file, its index and its token counts, as a set-up leaves them; written without a tokenizer's help."""
    from wmtp_jax.data import TEMPLATES, Record, encode_record, load_tokenizer
    from wmtp_jax.data.columns import write_columns
    from wmtp_jax.data.index import index_metadata, index_path, open_index
    from wmtp_jax.data.lengths import RESPONSE, lengths_metadata, lengths_path, prompt_column

    tokenizer, rng = load_tokenizer(TOKENIZER), np.random.default_rng(0)
    # A response of the token "x" so many times; how many characters make n tokens is read off the tokenizer.
    word = next(w for w in (" return", " for", " in", " x") if len(tokenizer.encode_continuation(w)) == 1)
    prompt = {name: 0 for name in TEMPLATES}
    lengths = np.clip(rng.lognormal(3.2, 0.7, rows), 4, 120).astype(np.int32)
    responses = np.array([len(tokenizer.encode_continuation(word * n)) + 1 for n in range(121)], np.int32)[lengths]
    problem = np.sort(rng.integers(0, PROBLEMS, rows)).astype(np.int32)
    is_correct = (rng.random(rows) < 0.475).astype(np.int8)
    difficulty = (problem % 5).astype(np.int32)
    for name in TEMPLATES:
        example = encode_record(Record("def f():\n", "", word, "a", True, {}), tokenizer, name, 10_000)
        prompt[name] = int(np.sum(~example.target_mask))
    outputs = [word * n for n in range(121)]
    line_length, checksum = array.array("i"), array.array("I")
    with open(path, "wb") as file:
        for i in range(rows):
            kind = "correct" if is_correct[i] else "incorrect"
            line = (
                f'{{"instruction": "def f():\\n", "input": "", "output": "{outputs[lengths[i]]}", "task_id": '
                f'"{problem[i]}_{kind}_{i}", "is_correct": {"true" if is_correct[i] else "false"}, "metadata": '
                f'{{"difficulty": "D{difficulty[i]}"}}}}'
            ).encode()
            line_length.append(len(line))
            checksum.append(zlib.crc32(line))
            file.write(line + b"\n")
    columns = {
        "length": np.array(line_length, np.int32),
        "checksum": np.array(checksum, np.uint32),
        "problem": problem,
        "difficulty": difficulty,
        "is_correct": is_correct,
        "clean": np.full(rows, -1, np.int8),
    }
    write_columns(index_path(path), [columns], index_metadata(path, [f"D{i}" for i in range(5)]))
    counts = {prompt_column(name): np.full(rows, prompt[name], np.int32) for name in TEMPLATES} | {RESPONSE: responses}
    about = lengths_metadata(tokenizer, TEMPLATES) | {"records": open_index(path).digest}
    write_columns(lengths_path(path), [counts], about)


def sample(path: Path, way: str) -> dict:
    """Opens, starts and takes batches; in a process of its own."""
    import grain  # noqa: F401  (the streams' library, which brings jax: its import is no part of opening)

    from wmtp_jax.data import Sampling, load_examples, load_tokenizer, make_batches

    tokenizer = load_tokenizer(TOKENIZER)
    process, peak, ended = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    imported = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    examples = load_examples(path, tokenizer, template="raw", max_length=2048, policy_samples="all")
    opened = time.perf_counter()
    sampling = Sampling(**WAYS[way]) if WAYS[way] else None
    batches = make_batches(examples, batch_size=BATCH_SIZE, seed=0, buckets=BUCKETS, sampling=sampling)
    first = next(batches)
    started = time.perf_counter()
    tokens = int(np.sum(first["segment_ids"] > 0)) + sum(
        int(np.sum(next(batches)["segment_ids"] > 0)) for _ in range(BATCHES - 1)
    )
    taken = time.perf_counter()
    batches.close()
    ended.set()
    watcher.join()
    return {
        "open_s": opened - began,
        "start_s": started - began,
        "rows_per_s": BATCH_SIZE * (BATCHES - 1) / (taken - started),
        "tokens": tokens,
        "peak_bytes": peak[0],
        "libraries_bytes": imported,
    }


def main() -> int:
    """One table, one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("index.json"))
    parser.add_argument("--rows", type=int, default=3_700_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workdir", type=Path, default=Path("index_benchmark"), help="kept for the next run")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.workdir / f"large-{arguments.rows}.jsonl"
    if arguments.way:
        print(json.dumps(sample(path, arguments.way)))
        return 0
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    built = build_rounds(arguments.workdir, arguments.rounds)
    seconds = {name: statistics.median(values) for name, values in built["cpu_seconds"].items()}
    ratio = seconds["plain loop"] / seconds["index"]
    print(f"{'':<22}{'rows/s':>10}{'MB/s':>8}   one core, {built['rows']:,} records")
    for name, value in seconds.items():
        print(f"{name:<22}{built['rows'] / value:>10.0f}{built['bytes'] / value / 1e6:>8.0f}")
    print(f"index / plain loop: {ratio:.2f} (aim {AIM_BUILD})\n")
    if not path.with_name(f"{path.name}.lengths").exists():
        make_large(path, arguments.rows)
    print(f"{arguments.rows:,} records, {path.stat().st_size / 1e6:.0f} MB")
    print(f"{'':<22}{'open s':>8}{'start s':>9}{'rows/s':>9}{'peak MB':>9}{'libraries MB':>14}")
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--rows", str(arguments.rows)]
        command += ["--workdir", str(arguments.workdir)]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        found[way] = row
        print(
            f"{way:<22}{row['open_s']:>8.2f}{row['start_s']:>9.2f}{row['rows_per_s']:>9.0f}"
            f"{row['peak_bytes'] / 1e6:>9.0f}{row['libraries_bytes'] / 1e6:>14.0f}"
        )
    largest = {name: max(row[name] for row in found.values()) for name in ("open_s", "start_s", "peak_bytes")}
    print(f"aims: open < {AIM_OPEN_S} s, start < {AIM_START_S} s, peak < {AIM_BYTES / 1e6:.0f} MB")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "rows": arguments.rows,
        "build": built,
        "sampling": found,
        "aims": {
            "index / plain loop": {"value": ratio, "aim": AIM_BUILD},
            "open_s": {"value": largest["open_s"], "aim": AIM_OPEN_S},
            "start_s": {"value": largest["start_s"], "aim": AIM_START_S},
            "peak_bytes": {"value": largest["peak_bytes"], "aim": AIM_BYTES},
        },
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
