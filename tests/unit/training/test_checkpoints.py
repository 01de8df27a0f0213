"""Checkpoints: bit for bit, or not at all."""

import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging

from wmtp_jax.files import json_digest
from wmtp_jax.training.checkpoints import Checkpoints
from wmtp_jax.training.errors import TrainingError

# orbax drops the other leaves' unfinished reads when one cannot be read; Python remarks on that when it collects them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect_dropped_reads():
    """Within this test, so that the remark does not fall upon another."""
    yield
    gc.collect()


@flax.struct.dataclass
class _State:
    step: jax.Array
    params: dict
    opt_state: tuple
    key_data: jax.Array


def _state(seed: int = 0) -> _State:
    key = jax.random.key(seed)
    kernel = jax.random.normal(key, (64, 128))
    params = {"trunk": {"kernel": kernel, "low": kernel.astype(jnp.bfloat16)}, "empty": {}}
    # A NaN with a payload and a negative zero: equal-by-value is not enough.
    odd = jnp.array([0x7FC01234, 0x80000000], jnp.uint32).view(jnp.float32)
    return _State(
        step=jnp.int32(seed),
        params=params,
        opt_state=({"mu": kernel * 0.1}, None, [odd]),
        key_data=jax.random.key_data(key),
    )


def _bytes(tree) -> list[tuple]:
    return [(np.asarray(x).dtype, np.shape(x), np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


@pytest.fixture
def directory(tmp_path) -> Path:
    """Checkpoints of the steps 10 and 20."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, _state(step), {"next": step})
    return tmp_path / "checkpoints"


def _array_file(directory: Path, step: int) -> Path:
    """The file that holds the arrays: the largest one."""
    return max((directory / str(step) / "state").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())


def _flip_bit(path: Path, position: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 0x10
    path.write_bytes(bytes(content))


def test_every_leaf_comes_back_bit_for_bit(directory):
    with Checkpoints(directory) as checkpoints:
        step, state, data_state = checkpoints.restore_latest(jax.eval_shape(lambda: _state(20)))
    assert (step, data_state) == (20, {"next": 20})
    assert isinstance(state, _State)
    assert _bytes(state) == _bytes(_state(20))


def test_saved_arrays_may_be_donated_at_once(tmp_path):
    state = _state(3)
    expected = _bytes(state)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        jax.block_until_ready(overwrite(state))
    with Checkpoints(tmp_path) as checkpoints:
        assert _bytes(checkpoints.restore_latest(_state(0))[1]) == expected


def test_nothing_saved_gives_none(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(_state()) is None
        assert checkpoints.last_step is None


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_flipped_bit_is_found_and_the_older_one_used(directory, warnings):
    _flip_bit(_array_file(directory, 20))
    with Checkpoints(directory) as checkpoints:
        step, state, data_state = checkpoints.restore_latest(_state(0))
        assert (step, data_state, checkpoints.last_step) == (10, {"next": 10}, 10)
        assert _bytes(state) == _bytes(_state(10))
        checkpoints.save(20, _state(20), {"next": 20})
    assert len(warnings) == 1
    assert "checkpoint 20 is damaged and was set aside as" in warnings[0]
    assert (directory.with_name("checkpoints_damaged") / "20").is_dir()
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0))[0] == 20


def test_every_flipped_bit_of_the_arrays_is_found_or_harmless(directory, warnings):
    """Whatever byte rots, what comes back is one of the two states that were saved."""
    rng = np.random.default_rng(0)
    path = _array_file(directory, 20)
    sound = path.read_bytes()
    for position in rng.integers(0, len(sound), 5):
        _flip_bit(path, int(position))
        with Checkpoints(directory) as checkpoints:
            step, state, _ = checkpoints.restore_latest(_state(0))
        assert _bytes(state) == _bytes(_state(step))
        aside = directory.with_name("checkpoints_damaged") / "20"
        if step == 10:
            aside.rename(directory / "20")
        path.write_bytes(sound)


def test_truncated_arrays(directory, warnings):
    path = _array_file(directory, 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0))[0] == 10
    assert "checkpoint 20 is damaged" in warnings[0]


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-9], lambda text: text.replace('"next": 20', '"next": 21'), str.upper]
)
def test_damaged_record(directory, warnings, damage):
    path = directory / "20" / "meta" / "metadata"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0))[0] == 10
    assert "its record" in warnings[0]


def test_leaf_that_differs_from_its_digest(directory, warnings):
    """The digests themselves are compared: arrays that read well but are not those that were saved do not pass."""
    path = directory / "20" / "meta" / "metadata"
    record = json.loads(path.read_text())
    del record["sha256"]
    record["leaves"]["params/trunk/low"]["sha256"] = hashlib.sha256(b"other bytes").hexdigest()
    path.write_text(json.dumps(record | {"sha256": json_digest(record)}))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0))[0] == 10
    assert "the digest of params/trunk/low differs" in warnings[0]


def test_empty_directory_named_like_a_step(directory, warnings):
    (directory / "30").mkdir()
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0))[0] == 20
        checkpoints.save(30, _state(30), {})
        assert checkpoints.last_step == 30
    assert any("checkpoint 30 is damaged" in warning for warning in warnings)


def test_all_damaged_starts_over_and_keeps_the_remains(directory, warnings):
    for step in (10, 20):
        _flip_bit(_array_file(directory, step))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(_state(0)) is None
    assert len(warnings) == 2
    assert sorted(path.name for path in directory.with_name("checkpoints_damaged").iterdir()) == ["10", "20"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.replace(step=jnp.float32(0)), ["at step", "int32[]", "float32[]"]),
        (lambda s: s.replace(key_data=jnp.zeros(4, jnp.uint32)), ["at key_data", "uint32[2]", "uint32[4]"]),
        (lambda s: s.replace(params=s.params | {"value": jnp.ones(3)}), ["nothing at params/value", "float32[3]"]),
    ],
)
def test_other_tree_is_refused_and_nothing_is_set_aside(directory, change, words):
    with Checkpoints(directory) as checkpoints, pytest.raises(TrainingError) as error:
        checkpoints.restore_latest(change(_state(0)))
    assert all(word in str(error.value) for word in words)
    assert (directory / "20").is_dir()


def test_failed_write_names_the_last_good_checkpoint(directory, monkeypatch):
    def disk_full(*_, **__):
        raise ValueError(f"RESOURCE_EXHAUSTED: {'a/long/path/' * 30}: No space left on device\nand more")

    monkeypatch.setattr(ocp.CheckpointManager, "save", disk_full)
    full = r"30 could not be written \(.*No space left on device\).*last whole checkpoint is .*/20$"
    with Checkpoints(directory) as checkpoints:
        checkpoints.restore_latest(_state(0))
        with pytest.raises(TrainingError, match=full):
            checkpoints.save(30, _state(30), {})


def test_step_that_exists_is_never_written_over(directory):
    with Checkpoints(directory) as checkpoints, pytest.raises(TrainingError, match="20 could not be written"):
        checkpoints.save(20, _state(99), {})
    with Checkpoints(directory) as checkpoints:
        assert _bytes(checkpoints.restore_latest(_state(0))[1]) == _bytes(_state(20))


@pytest.mark.slow
def test_kill_in_the_middle_of_saving(tmp_path):
    """Whenever the process dies, the next one finds a whole checkpoint and can write the following steps."""
    program = textwrap.dedent(
        """
        import sys, jax, jax.numpy as jnp
        from wmtp_jax.training.checkpoints import Checkpoints
        checkpoints = Checkpoints(sys.argv[1])
        found = checkpoints.restore_latest({"x": jnp.zeros(1_000_000)})
        first = 1 if found is None else found[0] + 1
        if found is not None:
            assert (found[1]["x"] == found[0]).all() and found[2] == {"next": found[0]}
        for step in range(first, 10**9):
            checkpoints.save(step, {"x": jnp.full(1_000_000, float(step))}, {"next": step})
            print(step, flush=True)
        """
    )
    reached = 0
    for lines_before_kill in (2, 3, 1):
        process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(lines_before_kill):
            line = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)  # the save just started is still being written
        process.communicate()
        assert line, "the restarted process failed"
        assert int(line) > reached
        reached = int(line) - 1  # only the save before the last one is promised
    with Checkpoints(tmp_path) as checkpoints:
        step, state, data_state = checkpoints.restore_latest({"x": jnp.zeros(1_000_000)})
    assert step >= reached
    assert (np.asarray(state["x"]) == step).all()
    assert data_state == {"next": step}


def test_restores_into_the_shardings_asked_for(tmp_path):
    """Eight simulated devices; saved in one layout, restored in another."""
    program = textwrap.dedent(
        """
        import sys, jax, jax.numpy as jnp, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from wmtp_jax.training.checkpoints import Checkpoints
        jax.config.update("jax_num_cpu_devices", 8)
        mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
        put = lambda spec: jax.device_put(jnp.arange(64.0).reshape(8, 8), NamedSharding(mesh, spec))
        with Checkpoints(sys.argv[1]) as checkpoints:
            checkpoints.save(1, {"x": put(P("fsdp", "tensor")), "r": put(P())}, {})
        for spec in (P("fsdp", "tensor"), P("tensor"), P(None, "fsdp")):
            with Checkpoints(sys.argv[1]) as checkpoints:
                _, state, _ = checkpoints.restore_latest({"x": put(spec), "r": put(spec)})
            assert state["x"].sharding == NamedSharding(mesh, spec), state["x"].sharding
            assert all((np.asarray(leaf) == np.arange(64.0).reshape(8, 8)).all() for leaf in state.values())
        """
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
