"""Run programs that nobody trusts against their tests.

A program with tests takes two steps, each in a sandbox of its own.

1. Plain: program and tests in one process and one namespace, as the benchmark's own judge runs them. Every failure is
   final, so failures are those of plain execution; a pass is only a claim.
2. Confirmed, for claims alone: the tests run in another process, which never runs a line of the program. It calls the
   program's functions and gets values of exact standard types back, so every comparison is the standard library's own.

What a verdict says:
- passed: the tests pass in plain execution. A program that attacks its tests can reach this.
- passed and confirmed: they pass as well where the program has nothing but its return values to influence them. It
  computed, or guessed, every value that the tests compare.
- passed and not confirmed: the tests need more of the program than values (an object of its class, its exception, what
  it prints, a generator, a helper that it may have redefined), could run what it returns (`eval`, `pickle`), or fail
  apart from it in a way that an honest program can explain; or their second run did not end in time. `detail` says
  which. Nothing is known against the program, and nothing proves that it did not forge the pass.
- failed, "forged": it passed together with its tests and fails apart from them, although these do nothing but call
  functions and compare plain values, which they share with nobody.

Protected against:
- reading or changing files: a program sees the Python installation and chosen packages, read-only, and a private
  directory of 64 MB and 10,000 files in memory;
- locks on those files and watches of them, the network, sockets of any kind, the environment, the machine's load, other
  processes and their memory;
- starting processes, exhausting memory, processor time, open files, disk or output, and outliving the run;
- a confirmed pass without computing the expected values: by leaving early, patching `==` or the tests, reading the
  expected values out of the interpreter, behaving differently in the two steps, or answering with anything but plain
  values.

Not protected against:
- holes in the Linux kernel or in bubblewrap, and side channels of the hardware;
- a program that hands on what it saw beside its tests, to its second step or to a later program, through what a kernel
  keeps of processes that have ended and others can measure: when its first step ended, how fast a file of the
  installation can be read, the numbers of new pipes. That carries a few uncertain bits;
- a pass that is not confirmed, where the program is malicious;
- weak tests: a program that guesses every value the tests look at passes, and a test that compares two functions of a
  program with each other knows no expected value;
- a source that brings its own asserts: it is run as it is, and its pass is not confirmed;
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
