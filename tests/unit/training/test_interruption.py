"""Signals: the first is noted, the second Ctrl-C leaves."""

import os
import signal
import subprocess
import sys

import pytest

from wmtp_jax.cli import Terminated
from wmtp_jax.training.interruption import Interruption


def test_first_signal_is_noted_and_handlers_come_back(capfd):
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        ending = KeyboardInterrupt if number == signal.SIGINT else Terminated
        with pytest.raises(ending), Interruption() as interruption:
            assert not interruption.requested
            os.kill(os.getpid(), number)
            assert interruption.requested
        assert signal.getsignal(number) is before
        assert signal.Signals(number).name in capfd.readouterr().err


def test_repeated_sigterm_does_not_cut_the_saving_short():
    with pytest.raises(Terminated), Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested


def test_second_ctrl_c_leaves_at_once():
    program = (
        "import os, signal\n"
        "from wmtp_jax.training.interruption import Interruption\n"
        "with Interruption():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "still here\n")


def test_what_fails_meanwhile_is_not_hidden():
    with pytest.raises(ZeroDivisionError), Interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError
