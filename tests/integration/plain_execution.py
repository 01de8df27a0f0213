"""Whether programs pass their tests under plain execution; run as a script, it trusts them entirely."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile

_SECONDS = 20


def plain_execution(pairs: dict[str, tuple[str, str]]) -> dict[str, str]:
    """How each (program, tests) pair ends when both run in one namespace: "passed", or the exception.

    One interpreter forks a child for each pair.
    """
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run(
            [sys.executable, "-I", os.path.abspath(__file__)],
            input=json.dumps(pairs),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=directory,
            env={"TMPDIR": directory},
        )
    return json.loads(ended.stdout)


def run(program: str, tests: str) -> str:
    main = sys.modules["__main__"] = type(sys)("__main__")
    try:
        exec(compile(f"{program}\n{tests}", "program.py", "exec"), main.__dict__)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "passed"


def run_in_child(program: str, tests: str) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        signal.alarm(_SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        os.write(writer, run(program, tests).encode(errors="replace"))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        outcome = stream.read().decode()
    os.waitpid(child, 0)
    return outcome or "exited"


if __name__ == "__main__":
    json.dump({name: run_in_child(*pair) for name, pair in json.load(sys.stdin).items()}, sys.stdout)
