"""Converts a synthetic checkpoint and compares time and memory with copying, hashing and syncing the same bytes.

    python benchmarks/convert.py --size_gb 2 --out convert.json

Makes a Meta checkpoint of about the given size in a temporary directory (the disk needs about three times as much),
then runs, one after the other: cp, sha256sum and sync of its files, and `python -m converters convert` to each layout.
Aims: peak resident memory <= 1.5 x the largest leaf + 400 MB; time <= 2 x (cp + sha256sum + sync).
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from converters.layout import Weight, weight_shape
from converters.meta import META
from converters.plan import make_plan
from converters.save import run_plan
from converters.tensor import DTYPES, parse_dtype
from wmtp_jax.model import ModelConfig, leaf_shapes

ROOT = Path(__file__).parents[1]


class RandomWeights:
    """A source of random matrices that holds one block of numbers, whatever the size of the model."""

    origin = None
    value_head = None
    description = {"layout": "random weights"}  # noqa: RUF012

    def __init__(self, config: ModelConfig, dtype: np.dtype):
        self.config, self._dtype = config, dtype
        self._shapes = leaf_shapes(config)
        self._block = np.random.default_rng(0).standard_normal(2**22, np.float32).astype(dtype)

    def dtype(self, _weight: Weight) -> np.dtype:
        """The same for every weight."""
        return self._dtype

    def read(self, weight: Weight) -> np.ndarray:
        """The block, repeated to the weight's size from a start that differs between layers."""
        shape = weight_shape(weight.leaf, self._shapes[weight.leaf])
        return np.resize(self._block[7 * (weight.layer or 0) :], shape[::-1]).T


def sized_config(nbytes: float, itemsize: int) -> ModelConfig:
    """Four heads and as many trunk layers as fit; narrower below 1 GB so that there is more than one."""
    dim, vocab_size = (2048, 32000) if nbytes >= 1e9 else (512, 8000)
    numbers = {"dim": dim, "n_heads": dim // 128, "vocab_size": vocab_size, "n_future_tokens": 4}
    sizes = lambda n_layers: sum(math.prod(s) for s in leaf_shapes(ModelConfig(n_layers=n_layers, **numbers)).values())
    per_layer = sizes(6) - sizes(5)
    return ModelConfig(n_layers=max(6, 5 + round((nbytes / itemsize - sizes(5)) / per_layer)), **numbers)


def make_checkpoint(directory: Path, config: ModelConfig, dtype: np.dtype) -> None:
    source = RandomWeights(config, dtype)
    plan = make_plan(source, META, max_shard_bytes=10**9)
    run_plan(source, plan, directory, "benchmark", [])


def timed(command: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a child process."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"{' '.join(command)} failed: {errors.decode()}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peer(source: Path, work: Path) -> dict[str, float]:
    """Seconds of cp, sha256sum and sync of the checkpoint's files."""
    copy = work / "copy"
    files = [str(path) for path in sorted(source.glob("*.safetensors"))]
    copy.mkdir()
    seconds = {"cp": timed(["cp", *files, str(copy)])[0]}
    digest = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
    seconds["sha256sum"] = timed([*digest, *[str(path) for path in sorted(copy.iterdir())]])[0]
    seconds["sync"] = timed(["sync"])[0]
    shutil.rmtree(copy)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size_gb", type=float, default=2.0, help="of the checkpoint (default: 2)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of the checkpoint")
    parser.add_argument("--temp_dir", type=Path, help="where to work (default: the system's)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()

    dtype = parse_dtype(arguments.dtype)
    config = sized_config(arguments.size_gb * 1e9, dtype.itemsize)
    largest_leaf = max(math.prod(shape) for shape in leaf_shapes(config).values()) * dtype.itemsize
    memory_limit = 1.5 * largest_leaf + 400e6
    with tempfile.TemporaryDirectory(dir=arguments.temp_dir, prefix="wmtp-convert-") as folder:
        work = Path(folder)
        make_checkpoint(work / "source", config, dtype)
        size = sum(path.stat().st_size for path in (work / "source").iterdir())
        os.sync()
        peer_seconds = peer(work / "source", work)
        time_limit = 2 * sum(peer_seconds.values())
        rows = []
        for target in ("flax", "meta", "hf"):
            command = [sys.executable, "-m", "converters", "convert", str(work / "source"), str(work / target)]
            seconds, peak = timed([*command, "--to", target])
            rows.append({"target": target, "seconds": seconds, "peak_bytes": peak})
            shutil.rmtree(work / target)

    print(
        f"{size / 1e9:.2f} GB {arguments.dtype}, {len(META.refs(config))} weights, "
        f"largest leaf {largest_leaf / 1e6:.0f} MB"
    )
    print(f"{'':<16}{'seconds':>9}{'limit':>9}{'peak MB':>10}{'limit':>8}")
    for name, seconds in peer_seconds.items():
        print(f"{name:<16}{seconds:>9.1f}")
    for row in rows:
        numbers = f"{row['seconds']:>9.1f}{time_limit:>9.1f}{row['peak_bytes'] / 1e6:>10.0f}{memory_limit / 1e6:>8.0f}"
        print(f"meta -> {row['target']:<8}{numbers}")
    record = {
        "size_bytes": size,
        "dtype": arguments.dtype,
        "largest_leaf_bytes": largest_leaf,
        "peer_seconds": peer_seconds,
        "time_limit_seconds": time_limit,
        "memory_limit_bytes": memory_limit,
        "conversions": rows,
        "passed": all(row["seconds"] <= time_limit and row["peak_bytes"] <= memory_limit for row in rows),
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"{'within' if record['passed'] else 'BEYOND'} the limits; written to {arguments.out}")


if __name__ == "__main__":
    main()
