"""Setting up CodeContests: rows per second, memory, and the share of the tokenizer's own speed.

    python benchmarks/datasets.py --out datasets.json                     # 200,000 solutions
    python benchmarks/datasets.py --solutions 4000 --out datasets.json    # a smoke run

The source is made here: parquet files with the published schema, several row groups each, solutions in four languages
that are stretches of Python's own library, with its docstrings as descriptions, and a tokenizer of 32,000 pieces
trained on the same library with Llama-2's settings. The peer is that tokenizer alone: as many processes encode every
description once and every Python solution once, all in memory. The product counts the same tokens, for which it encodes
each different word once, and does everything else: it reads parquet, filters, writes records, index, counts, tests,
statistics and digests. Both take turns; the median round counts. Memory is the proportional set size of all processes
together, every 0.1 s of a run of its own.

Then: one worker instead of all, and a run that is killed in the middle and started again; each has to give the bytes
of the first.

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
VALID_PROBLEMS = TEST_PROBLEMS = 8


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
    prose = [" ".join(part for part in text.split('"""')[1::2]) for text in texts]
    prose = [text for text in prose if len(text) > 4000]
    directory.mkdir(parents=True)
    train = max(solutions // SOLUTIONS_PER_PROBLEM, 1)
    number = 0
    for split, count in (("train", train), ("valid", VALID_PROBLEMS), ("test", TEST_PROBLEMS)):
        file, written = 0, 0
        while written < count:
            rows = min(ROWS_PER_GROUP * GROUPS_PER_FILE, count - written)
            table = pyarrow.Table.from_pylist([problem(number + i, texts, prose, rng) for i in range(rows)])
            path = directory / f"{split}-{file:05}-of-{-(-count // (ROWS_PER_GROUP * GROUPS_PER_FILE)):05}.parquet"
            pyarrow.parquet.write_table(table, path, row_group_size=ROWS_PER_GROUP)
            number, written, file = number + rows, written + rows, file + 1


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


def command(source: Path, tokenizer: Path, storage: Path, workers: int) -> list[str]:
    """The product's command line."""
    options = ["--from", source, "--tokenizer", tokenizer, "--storage", storage, "--workers", workers]
    return [sys.executable, "-m", "wmtp_jax.storage", "datasets", "codecontests", *map(str, options)]


def product(source: Path, tokenizer: Path, storage: Path, workers: int) -> float:
    """Seconds of a run from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command(source, tokenizer, storage, workers), stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def killed(source: Path, tokenizer: Path, storage: Path, workers: int) -> None:
    """A run that is killed when its first unit is finished."""
    process = subprocess.Popen(command(source, tokenizer, storage, workers), stderr=subprocess.DEVNULL)
    work = storage / "datasets_v2" / ".codecontests.work"
    while process.poll() is None and not list(work.glob("unit-*.json")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    if not work.exists():
        raise SystemExit("the set-up ended before it could be killed; take more --solutions")


def peak_memory(source: Path, tokenizer: Path, storage: Path, workers: int) -> int:
    """Most bytes of a run at one time."""
    process, peak = subprocess.Popen(command(source, tokenizer, storage, workers), stderr=subprocess.DEVNULL), 0
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


def sums(storage: Path) -> str:
    """The digests of all files."""
    return (storage / "datasets_v2" / "codecontests" / "SHA256SUMS").read_text()


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
    alone, runs = [], []
    for _ in range(arguments.rounds):
        alone.append(tokenizer_alone(texts, tokenizer, workers))
        shutil.rmtree(storage, ignore_errors=True)
        runs.append(product(source, tokenizer, storage, workers))
    first = sums(storage)
    metadata = json.loads((storage / "datasets_v2" / "codecontests" / "metadata.json").read_text())
    del texts
    others = {}
    for what, options in (("one worker", {"workers": 1}), ("killed and started again", {"workers": workers})):
        shutil.rmtree(storage)
        if "killed" in what:
            killed(source, tokenizer, storage, workers)
        product(source, tokenizer, storage, **options)
        others[what] = sums(storage) == first
    shutil.rmtree(storage)
    peak = peak_memory(source, tokenizer, storage, workers)
    shutil.rmtree(storage)

    records = sum(split["programs"] for split in metadata["splits"].values())
    solutions = sum(s["source_solutions"] for s in metadata["splits"].values())
    seconds, peer = statistics.median(runs), statistics.median(alone)
    in_bytes = sum(path.stat().st_size for path in source.iterdir())
    print(f"{solutions:,} Python solutions, {records:,} records, {in_bytes / 1e6:.0f} MB of parquet, {workers} workers")
    print(f"{'':<22}{'seconds':>10}{'rows/s':>10}{'peak MB':>10}")
    print(f"{'tokenizer alone':<22}{peer:>10.1f}{solutions / peer:>10.0f}")
    print(f"{'set-up':<22}{seconds:>10.1f}{solutions / seconds:>10.0f}{peak / 1e6:>10.0f}")
    print(
        f"set-up / tokenizer: {peer / seconds:.2f} (aim {AIM_SHARE}); peak {peak / 1e9:.2f} GB (aim {AIM_BYTES / 1e9})"
    )
    for what, same in others.items():
        print(f"{what}: {'the same bytes' if same else 'OTHER BYTES'}")
    record = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "workers": workers,
        "python_solutions": solutions,
        "records": records,
        "rounds": {"tokenizer_alone_s": alone, "set_up_s": runs},
        "same_bytes": others,
        "aims": {
            "set-up / tokenizer": {"value": peer / seconds, "aim": AIM_SHARE},
            "peak_bytes": {"value": peak, "aim": AIM_BYTES},
        },
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0 if all(others.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
