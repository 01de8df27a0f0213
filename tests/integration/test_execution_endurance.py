"""Many programs in a row, and an evaluator that is killed, leave nothing.

ENDURANCE_PROGRAMS=5000 in the environment runs so many instead of a few.
"""

import os
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from wmtp_jax.sandbox import Program, check_programs
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

PROGRAMS = [
    Program("def solve(x): return x * x", "assert solve(3) == 9"),
    Program("def solve(x): return x", "assert solve(3) == 9"),
    Program("class Nine: __eq__ = lambda *_: True\ndef solve(x): return Nine()", "assert solve(3) == 9"),
    Program("open('file', 'w').write('x' * 10 ** 5)\nprint('y' * 10 ** 5)\nraise SystemExit", "pass"),
    Program("print(input())", cases=(("1\n", "1\n"),)),
]
# Two of them are in their first step, two in their second, whose tests do not end.
ENDLESS = """
from wmtp_jax.sandbox import Program, check_programs
tests = "import sys\\nprint()\\nwhile 'wmtp_jax.sandbox.test_worker' in sys.modules: pass"
programs = [Program("while True: pass", "pass"), Program("x = 1", tests)] * 2
check_programs(programs, timeout_s=60.0, memory_bytes=1 << 28, workers=4)
"""


def held() -> tuple[int, int, list[str]]:
    """Open files, child processes, and temporary files."""
    this = psutil.Process()
    return this.num_fds(), len(this.children(recursive=True)), os.listdir(tempfile.gettempdir())


def test_many_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = {"timeout_s": 20.0, "memory_bytes": 1 << 28, "workers": 2}
    check_programs(PROGRAMS * 4, **limits)
    count = int(os.environ.get("ENDURANCE_PROGRAMS", "50"))
    before, memory = held(), psutil.Process().memory_info().rss
    verdicts = check_programs(PROGRAMS * (count // len(PROGRAMS)), **limits)
    expected = [("passed", True), ("wrong answer", False), ("passed", False), ("exited", False), ("passed", True)]
    assert [(each.reason, each.confirmed) for each in verdicts] == expected * (count // len(PROGRAMS))
    verdicts.clear()
    assert held() == before
    assert psutil.Process().memory_info().rss - memory < 64 << 20


def test_killed_evaluator(tmp_path):
    evaluator = subprocess.Popen([sys.executable, "-c", ENDLESS], env=os.environ | {"TMPDIR": str(tmp_path)})
    family, until = [], time.monotonic() + 30
    busy = lambda: [each for each in family if each.cpu_times().user > 0.5]
    while time.monotonic() < until:
        time.sleep(0.2)
        family = psutil.Process(evaluator.pid).children(recursive=True)
        try:
            if len(busy()) == 4:
                break
        except psutil.NoSuchProcess:
            continue
    assert len(busy()) == 4
    evaluator.kill()
    evaluator.wait()
    _, alive = psutil.wait_procs(family, timeout=1.0)
    assert [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    assert os.listdir(tmp_path) == []
