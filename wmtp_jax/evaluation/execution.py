"""Run programs that a model wrote, each in a fresh interpreter in a sandbox, and say whether their tests passed.

Two processes take part. The guest runs the program and nothing else. The judge runs the tests and never a line of the
program: it asks the guest to call functions and compares plain values itself. So a program that passes has computed the
expected values: it can neither see them nor touch the comparison, and every other way out is a failure. This holds for
tests handed over apart from the program. Tests that stand at the end of one source (asserts, or calls of a function
`check...` or `test...` with asserts) are told from it by syntax, so there a program's own last lines count as tests.
"""

import functools
import resource
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from wmtp_jax.evaluation.court import Court, Program, Verdict
from wmtp_jax.evaluation.errors import ExecutionError
from wmtp_jax.evaluation.sandbox import probe

__all__ = ["Program", "Verdict", "check_programs", "require_sandbox", "run_program"]

# Open files of one worker, with its next guest, and those of the rest of this process.
_FILES_PER_WORKER, _FILES_BESIDE = 16, 128


def run_program(
    source: str,
    *,
    timeout_s: float,
    memory_bytes: int,
    stdin: str = "",
    tests: str = "",
    sandbox: str = "bwrap",
) -> Verdict:
    """Runs one program and its tests.

    Args:
        source: the program; may end with its own tests.
        timeout_s: wall-clock seconds from its first line on.
        memory_bytes: of address space, the interpreter's own (about 20 MB) included.
        stdin: what it reads.
        tests: Python source that raises where the program is wrong; may use the program's names.
        sandbox: "bwrap"; or "none": a process of its own with resource limits, which holds back no malice.

    Returns:
        The verdict. Anything that the program does leads to one.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    return _court(sandbox).try_program(Program(source, tests, stdin), timeout_s, memory_bytes)


def check_programs(
    programs: Sequence[Program | str],
    *,
    timeout_s: float,
    memory_bytes: int,
    workers: int,
    sandbox: str = "bwrap",
    on_verdict: Callable[[int, Verdict], None] | None = None,
) -> list[Verdict]:
    """Runs programs side by side, as `run_program` does.

    Args:
        programs: sources, or programs with tests.
        timeout_s: wall-clock seconds per program.
        memory_bytes: address space per program.
        workers: programs that run at the same time; fewer where this process may not open enough files for them.
        sandbox: "bwrap" or "none".
        on_verdict: called with (index, verdict) as each program ends, one at a time, in the order of the ends.

    Returns:
        The verdicts, in the order of the programs.
    """
    if workers < 1:
        raise ExecutionError(f"programs need at least one worker, not {workers}.")
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _FILES_BESIDE) // _FILES_PER_WORKER
    workers = min(workers, max(1, room))
    court = _court(sandbox)
    lock, spares = threading.Lock(), court.spares()

    def check(index: int) -> Verdict:
        program = programs[index]
        program = Program(program) if isinstance(program, str) else program
        verdict = court.try_program(program, timeout_s, memory_bytes, spares)
        if on_verdict:
            with lock:
                on_verdict(index, verdict)
        return verdict

    pool = ThreadPoolExecutor(workers, thread_name_prefix="program")
    try:
        return list(pool.map(check, range(len(programs))))
    finally:
        pool.shutdown(cancel_futures=True)
        spares.close()


def require_sandbox(sandbox: str) -> None:
    """Probes the sandbox, where that has not been done yet.

    Raises:
        ExecutionError: there is no sandbox on this machine, or it does not hold.
    """
    _court(sandbox)


@functools.cache
def _court(sandbox: str) -> Court:
    """One judge per process and kind of sandbox; the sandbox is probed before anything else runs in it."""
    court = Court(sandbox)
    if sandbox != "none":
        try:
            probe(lambda source: court.try_program(Program(source), 20.0, 512 << 20).stdout)
        except ExecutionError:
            court.close()
            raise
    return court
