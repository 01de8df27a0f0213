"""Our training step against the torch reference (dense and head by head) and against the dense JAX loss.

    python benchmarks/train_step.py --out train_step.json

One model (dim 512, 6 layers of which 4 are heads, vocabulary 32,000), one batch (4 x 256), fp32, AdamW, global-norm
clip; about five minutes and 10 GB of memory on 2 cores. Every peer runs in a process of its own, is warmed up, and then
they take turns, one step each per round, so that a change of the machine's speed hits all alike; medians are compared.
The best f32 matmul rate is measured in the same rounds.

Aims: >= 1.8x the dense torch step, >= 1.2x the head-by-head one, >= 0.75 of the matmul peak, temporary memory with
4 heads <= 1.25 x that with one head and as many layers in all.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = Path(__file__).with_name("train_step_peers.py")
TIMED = ("ours", "dense JAX loss", "torch, head by head", "torch, dense loss")
MODEL = {"dim": 512, "n_layers": 6, "n_heads": 8, "n_future_tokens": 4, "vocab_size": 32000, "multiple_of": 256}
SMALL = {"dim": 64, "n_layers": 6, "n_heads": 4, "n_future_tokens": 4, "vocab_size": 1000, "multiple_of": 32}


class Peer:
    """A child process that trains one step when asked."""

    def __init__(self, name: str, directory: str, batch_size: int, length: int):
        self.name = name
        command = [sys.executable, str(PEERS), name, directory, str(batch_size), str(length)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._answer()
        print(f"{name}: ready", file=sys.stderr)
        self.seconds, self.values = [], []

    def run(self):
        """One step."""
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.values.append(answer["value"])

    def finish(self) -> int:
        """Ends the process and returns its peak resident bytes."""
        self._process.stdin.close()
        peak = self._answer()["peak_rss_bytes"]
        self._process.wait()
        return peak

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"the peer {self.name!r} died with exit code {self._process.wait()}; see its message above"
            )
        return json.loads(line)


def measure(model: dict, batch_size: int, length: int, rounds: int) -> dict:
    """Runs all peers in turn.

    Args:
        model: fields of ModelConfig.
        batch_size: rows.
        length: positions per row.
        rounds: timed steps per peer.

    Returns:
        What the table shows, and every single time.
    """
    sizes = (batch_size, length)
    with tempfile.TemporaryDirectory() as temporary:
        directory = str(Path(temporary) / "model")
        subprocess.run([sys.executable, str(PEERS), "save_model", directory, json.dumps(model)], check=True)
        one_head = Peer("ours, one head", directory, *sizes)
        one_head.finish()
        peers = [Peer(name, directory, *sizes) for name in (*TIMED, "matmul")]
    for i in range(rounds):
        for j in range(len(peers)):
            peers[(i + j) % len(peers)].run()
        print(f"round {i + 1} of {rounds}", file=sys.stderr)

    *timed, matmul = peers
    matmul.finish()
    check_same_losses(timed)
    matmul_peak = statistics.median(matmul.values)
    flops = timed[0].about["flops"]
    ours = statistics.median(timed[0].seconds)
    rows = {}
    for peer in timed:
        seconds = statistics.median(peer.seconds)
        rows[peer.name] = {
            "seconds_median": seconds,
            "seconds": peer.seconds,
            "tokens_per_second": batch_size * length / seconds,
            "times_ours": seconds / ours,
            "share_of_matmul_peak": flops / seconds / matmul_peak,
            "peak_rss_bytes": peer.finish(),
            "temporary_bytes": peer.about.get("temporary_bytes"),
            "losses": peer.values,
        }
    return {
        "model": model,
        "batch_size": batch_size,
        "length": length,
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "matmul_peak_flops_per_second": matmul_peak,
        "step_flops": flops,
        "peers": rows,
        "temporary_bytes_one_head": one_head.about["temporary_bytes"],
        "temporary_ratio_of_heads": timed[0].about["temporary_bytes"] / one_head.about["temporary_bytes"],
    }


def check_same_losses(peers: list[Peer]):
    """Peers that compute different things must not be compared."""
    for peer in peers[1:]:
        difference = max(abs(a - b) for a, b in zip(peer.values, peers[0].values, strict=True))
        if not difference <= 2e-3:
            raise SystemExit(
                f"the losses of {peer.name!r} and {peers[0].name!r} differ by {difference}: not the same step"
            )


def table(result: dict) -> str:
    """The result for the reader."""
    lines = [f"{'peer':22}{'s/step':>8}{'tokens/s':>10}{'x ours':>8}{'of peak':>9}{'peak RSS':>11}{'temporaries':>13}"]
    for name, row in result["peers"].items():
        temporary = row["temporary_bytes"]
        lines.append(
            f"{name:22}{row['seconds_median']:8.3f}{row['tokens_per_second']:10.0f}{row['times_ours']:8.2f}"
            f"{row['share_of_matmul_peak']:9.2f}{row['peak_rss_bytes'] / 2**20:7.0f} MiB"
            + (f"{temporary / 2**20:9.0f} MiB" if temporary else f"{'-':>13}")
        )
    lines += [
        f"matmul peak {result['matmul_peak_flops_per_second'] / 1e9:.1f} GFLOP/s f32 (best of the step's own shapes); "
        f"a step needs {result['step_flops'] / 1e9:.1f} GFLOP",
        "  = 6 B S (n_layers (2 D H Q + 2 D K Q + 3 D F) + N D V) + 12 n_layers H Q S^2 B",
        f"temporaries of our step: {result['temporary_ratio_of_heads']:.2f} x those with one head and as many layers "
        f"({result['temporary_bytes_one_head'] / 2**20:.0f} MiB)",
    ]
    return "\n".join(lines)


def main():
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7, help="timed steps per peer")
    parser.add_argument("--small", action="store_true", help="a tiny model, to see that the script works")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    arguments = parser.parse_args()
    sizes = (SMALL, 2, 64) if arguments.small else (MODEL, 4, 256)
    result = measure(*sizes, rounds=arguments.steps)
    print(table(result))
    if arguments.out:
        unfinished = arguments.out.with_name(arguments.out.name + ".unfinished")
        unfinished.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(unfinished, arguments.out)


if __name__ == "__main__":
    main()
