"""Fixtures and settings that all tests share."""

import importlib.metadata
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure(config):
    """One cache of compiled programs for all workers and the processes that tests start: most compile the same ones.

    Programs are compiled with few optimisations, unless XLA_FLAGS says otherwise: a step of a small model runs twice as
    long (1 s), but compiles in a sixth of the time (2 s instead of 12).
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and inherited by every process
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that a version does not know ends the process
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
    if not hasattr(config, "workerinput") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        directory = tempfile.mkdtemp(prefix="wmtp-compiled-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory) -> Path:
    """Indexes of test files stay among the tests' own files."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and problem sets beside the project; a user's clone has none."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("needs ../shared/data, which lies beside the project on its own machines only")
    return path
