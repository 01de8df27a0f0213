"""Setting up CodeContests: rows per second, memory, and the share of the tokenizer's own speed.

    python benchmarks/datasets.py --out datasets.json                     # 200,000 solutions
    python benchmarks/datasets.py --solutions 4000 --out datasets.json    # a smoke run

The source is made here: parquet files with the published schema, solutions in four languages that are stretches of
Python's own library, its docstrings as descriptions, and a tokenizer of 32,000 pieces trained on the same library with
Llama-2's settings. The peer is that tokenizer alone: as many processes encode every description and every Python
solution once, all in memory. The product counts the same tokens and does everything else: it reads parquet, filters,
writes records, tests, statistics and digests. Both take turns; the median round counts. Memory is the proportional set
size of all processes together, every 0.1 s of a run of its own. Then: one worker instead of all, and a run that is
killed in the middle and started again; each has to give the bytes of the first.

Aims: >= 0.7 of the tokenizer's own speed; at most 1.5 GB.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import pyarrow
import pyarrow.parquet
import sentencepiece

AIM_SHARE, AIM_BYTES = 0.7, 1.5e9
SOLUTIONS_PER_PROBLEM = 200
ROWS_PER_GROUP, GROUPS_PER_FILE = 25, 4
PYTHON_3 = 3
# Python 2, C++, Python 3, Java.
LANGUAGES = (1, 2, PYTHON_3, 4)
LANGUAGE_WEIGHTS = (5, 50, 35, 10)
HELD_OUT = 8  # problems of each other split


def library() -> list[str]:
    """The sources of Python's own library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    texts = (file.read_text(encoding="utf-8", errors="ignore") for file in files if "site-packages" not in file.parts)
    return [text for text in texts if len(text) > 2000]


def problem(number: int, texts: list[str], prose: list[str], rng: random.Random) -> dict:
    """One row: a description of about 1,800 characters, and solutions of about 700."""

    def solutions(count: int) -> dict:
        languages = rng.choices(LANGUAGES, LANGUAGE_WEIGHTS, k=count)
        return {"language": languages, "solution": [stretch(rng.lognormvariate(6.4, 0.7)) for _ in languages]}

    def stretch(length: float) -> str:
        text = rng.choice(texts)
        begin = text.rfind("\n", 0, rng.randrange(len(text))) + 1
        return text[begin : begin + int(length) + 20] + "\n"

    def cases(count: int, size: float) -> dict:
        text = lambda: " ".join(str(rng.randrange(10**6)) for _ in range(int(rng.expovariate(1 / size)) + 1)) + "\n"
        return {"input": [text() for _ in range(count)], "output": [text() for _ in range(count)]}

    words = rng.choice(prose)
    begin = rng.randrange(max(len(words) - 3000, 1))
    correct = rng.randrange(SOLUTIONS_PER_PROBLEM)
    return {
        "name": f"{number}_A. Problem {number}",
        "description": words[begin : begin + int(rng.gauss(1800, 500)) + 200],
        "public_tests": cases(2, 10),
        "private_tests": cases(10, 50),
        "generated_tests": cases(60, 200),
        "solutions": solutions(correct),
        "incorrect_solutions": solutions(SOLUTIONS_PER_PROBLEM - correct),
        "difficulty": rng.randrange(7, 12),
        "cf_rating": rng.randrange(800, 3000, 100),
        "time_limit": {"seconds": 2, "nanos": 0},
        "memory_limit_bytes": 256000000,
    }


def make_source(directory: Path, solutions: int) -> None:
    """Parquet files of the three splits."""
    rng, texts = random.Random(0), library()
    prose = [" ".join(text.split('"""')[1::2]) for text in texts]
    prose = [text for text in prose if len(text) > 4000]
    directory.mkdir(parents=True)
    per_file, number = ROWS_PER_GROUP * GROUPS_PER_FILE, 0
    counts = {"train": max(solutions // SOLUTIONS_PER_PROBLEM, 1), "valid": HELD_OUT, "test": HELD_OUT}
    for split, count in counts.items():
        for file, begin in enumerate(range(0, count, per_file)):
            rows = [problem(number + i, texts, prose, rng) for i in range(min(per_file, count - begin))]
            path = directory / f"{split}-{file:05}-of-{-(-count // per_file):05}.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=ROWS_PER_GROUP)
            number += len(rows)


def make_tokenizer(path: Path) -> None:
    """32,000 pieces with Llama-2's settings: bytes as a fall-back, a space before all, whitespace kept."""
    lines = (line for text in library() for line in text.splitlines(keepends=True))
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=file,
            vocab_size=32000,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            minloglevel=2,
        )


def texts_of(source: Path) -> list[str]:
    """Every description, and every solution in Python 3."""
    found = []
    for path in sorted(source.glob("*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["description", "solutions", "incorrect_solutions"])
        for row in table.to_pylist():
            found.append(row["description"])
            for column in ("solutions", "incorrect_solutions"):
                both = zip(row[column]["language"], row[column]["solution"], strict=True)
                found += [text for language, text in both if language == PYTHON_3]
    return found


def start_encoder(tokenizer: str) -> None:
    """Reads the tokenizer into a process of the peer."""
    global ENCODER
    ENCODER = sentencepiece.SentencePieceProcessor(model_file=tokenizer)


def encode(texts: list[str]) -> float:
    """Seconds that a process of the peer takes; the texts have come already."""
    began = time.perf_counter()
    ENCODER.encode(texts, num_threads=1)
    return time.perf_counter() - began


def tokenizer_alone(texts: list[str], tokenizer: Path, workers: int) -> float:
    """Seconds of the slowest process."""
    with ProcessPoolExecutor(workers, get_context("spawn"), start_encoder, (str(tokenizer),)) as pool:
        list(pool.map(encode, [[" "]] * workers))
        return max(pool.map(encode, [texts[i::workers] for i in range(workers)]))


def start(source: Path, tokenizer: Path, storage: Path, workers: int, *, clean: bool = True) -> subprocess.Popen:
    """The product's command line, with nothing set up before, or with what a killed run left."""
    if clean:
        shutil.rmtree(storage, ignore_errors=True)
    options = ["--from", source, "--tokenizer", tokenizer, "--storage", storage, "--workers", workers]
    command = [sys.executable, "-m", "wmtp_jax.storage", "datasets", "codecontests", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds_of(process: subprocess.Popen) -> float:
    """Seconds until a run that was just started ends."""
    began = time.perf_counter()
    if process.wait():
        raise SystemExit(f"the set-up failed: {process.args}")
    return time.perf_counter() - began


def kill_midway(process: subprocess.Popen, storage: Path) -> None:
    """Kills a run when its first records are joined."""
    while process.poll() is None and not (storage / "datasets_v2/codecontests.partial/processed/train.jsonl").exists():
        time.sleep(0.01)
    process.kill()
    if process.wait() == 0:
        raise SystemExit("the set-up ended before it could be killed; take more --solutions")


def peak_memory(process: subprocess.Popen) -> int:
    """Most bytes of a run at one time."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.1)
    return peak


def memory(pid: int) -> int:
    """Proportional set size of a process and all below it."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        pass
    return total


def main() -> int:
    """Both sides in turn, one table, one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("datasets.json"))
    parser.add_argument("--solutions", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--workdir", type=Path, default=Path("datasets_benchmark"), help="source, kept for the next run"
    )
    arguments = parser.parse_args()
    source, tokenizer = arguments.workdir / f"source-{arguments.solutions}", arguments.workdir / "tokenizer.model"
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    if not tokenizer.exists():
        make_tokenizer(tokenizer)
    if not source.exists():
        make_source(source, arguments.solutions)
    texts, workers, storage = texts_of(source), arguments.workers, arguments.workdir / "storage"
    directory = storage / "datasets_v2" / "codecontests"
    alone, runs = [], []
    for _ in range(arguments.rounds):
        alone.append(tokenizer_alone(texts, tokenizer, workers))
        runs.append(seconds_of(start(source, tokenizer, storage, workers)))
    first, metadata = (directory / "SHA256SUMS").read_text(), json.loads((directory / "metadata.json").read_text())
    del texts
    seconds_of(start(source, tokenizer, storage, 1))
    same = {"one worker": (directory / "SHA256SUMS").read_text() == first}
    kill_midway(start(source, tokenizer, storage, workers), storage)
    seconds_of(start(source, tokenizer, storage, workers, clean=False))
    same["killed and started again"] = (directory / "SHA256SUMS").read_text() == first
    peak = peak_memory(start(source, tokenizer, storage, workers))
    shutil.rmtree(storage)

    records, solutions = (
        sum(split[name] for split in metadata["splits"].values()) for name in ("programs", "source_solutions")
    )
    seconds, peer = statistics.median(runs), statistics.median(alone)
    in_bytes = sum(path.stat().st_size for path in source.iterdir())
    print(f"{solutions:,} Python solutions, {records:,} records, {in_bytes / 1e6:.0f} MB of parquet, {workers} workers")
    print(f"{'':<22}{'seconds':>10}{'rows/s':>10}{'peak MB':>10}")
    print(f"{'tokenizer alone':<22}{peer:>10.1f}{solutions / peer:>10.0f}")
    print(f"{'set-up':<22}{seconds:>10.1f}{solutions / seconds:>10.0f}{peak / 1e6:>10.0f}")
    print(
        f"set-up / tokenizer: {peer / seconds:.2f} (aim {AIM_SHARE}); peak {peak / 1e9:.2f} GB (aim {AIM_BYTES / 1e9})"
    )
    for what, equal in same.items():
        print(f"{what}: {'the same bytes' if equal else 'OTHER BYTES'}")
    aims = {"set-up / tokenizer": (peer / seconds, AIM_SHARE), "peak_bytes": (peak, AIM_BYTES)}
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "workers": workers,
        "python_solutions": solutions,
        "records": records,
        "rounds": {"tokenizer_alone_s": alone, "set_up_s": runs},
        "same_bytes": same,
        "aims": {name: {"value": value, "aim": aim} for name, (value, aim) in aims.items()},
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
