"""Run a program that a model wrote, in a process of its own, and say whether its tests passed."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_BOOTSTRAP = """
import os, resource, sys
def run(fd, nonce, memory, seconds):
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    os.close(fd)
    code = compile(b"".join(parts), "program", "exec")
    exec(code, {"__name__": "__main__"})
    os.write(2, nonce)
run(int(sys.argv[1]), sys.argv.pop(2).encode(), int(sys.argv[2]), int(sys.argv[3]))
"""


@dataclass(frozen=True)
class Program:
    """A program and the tests that judge it (Python source that fails by raising)."""

    source: str
    tests: str = ""
    stdin: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a program: `reason` is passed, wrong answer, exception, timeout, memory or exited."""

    passed: bool
    reason: str
    stdout: str


def run_program(source: str, *, timeout_s: float, memory_bytes: int, stdin: str = "", tests: str = "") -> Verdict:
    """Run one program, then its tests, in a fresh interpreter."""
    nonce = secrets.token_hex(16)
    read, write = os.pipe()
    arguments = [str(read), nonce, str(memory_bytes), str(int(timeout_s) + 1)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _BOOTSTRAP, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        pass_fds=[read],
        start_new_session=True,
    )
    os.close(read)
    with os.fdopen(write, "wb") as channel:
        channel.write((source + "\n" + tests).encode(errors="backslashreplace"))
    try:
        out, error = process.communicate(stdin.encode(errors="backslashreplace"), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
        return Verdict(False, "timeout", out.decode(errors="replace"))
    text = out.decode(errors="replace")
    if process.returncode == 0 and error.endswith(nonce.encode()):
        return Verdict(True, "passed", text)
    last = error.decode(errors="replace").strip().rpartition("\n")[2]
    kind = {"AssertionError": "wrong answer", "MemoryError": "memory"}.get(last.partition(":")[0], "exception")
    return Verdict(False, kind if process.returncode == 1 else "exited", text)


def check_programs(
    programs: Sequence[Program | str],
    *,
    timeout_s: float,
    memory_bytes: int,
    workers: int,
    sandbox: str = "bwrap",
    progress: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """Run programs side by side; verdicts in the order of the programs."""
    done = 0

    def check(program: Program | str) -> Verdict:
        nonlocal done
        program = Program(program) if isinstance(program, str) else program
        verdict = run_program(
            program.source, tests=program.tests, stdin=program.stdin, timeout_s=timeout_s, memory_bytes=memory_bytes
        )
        done += 1
        if progress:
            progress(done, len(programs))
        return verdict

    with ThreadPoolExecutor(workers) as pool:
        verdicts = list(pool.map(check, programs))
    return verdicts
