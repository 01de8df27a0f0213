"""Run programs that nobody trusts against their tests.

Two processes take part, each in a sandbox of its own. The program worker runs the program and nothing else. The test
worker runs the tests and never a line of the program: it asks the program worker to call functions, and compares plain
values itself.

Protected against:
- reading or changing files: a program sees the Python installation, read-only, and 64 MB of scratch space in memory;
- the network, sockets of any kind, the environment, other processes and their memory;
- starting processes, exhausting memory, processor time, open files, disk or output, and outliving the run;
- passing without computing the expected values: by leaving early, patching `==` or the tests, reading the expected
  values out of the interpreter, or answering the test worker with anything but plain values.

Not protected against:
- holes in the Linux kernel or in bubblewrap, and side channels of the hardware;
- a program that brings its own tests in one source (asserts or `check...` and `test...` functions at its end): these
  are told from the program by syntax, so whatever stands there counts as a test;
- weak tests: a program that guesses every value the tests look at passes;
- malice with `sandbox="none"`: a process of its own with resource limits, and your files and network in reach.
"""

from wmtp_jax.sandbox.isolation import SANDBOXES, ExecutionError
from wmtp_jax.sandbox.runner import Program, Verdict, check_programs, require_sandbox, run_program

__all__ = [
    "SANDBOXES",
    "ExecutionError",
    "Program",
    "Verdict",
    "check_programs",
    "require_sandbox",
    "run_program",
]
