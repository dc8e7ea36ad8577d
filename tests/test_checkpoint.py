import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lensjax.storage import checkpoint
from lensjax.storage.checkpoint import CheckpointError, LockError


class State(NamedTuple):
    step: jax.Array
    params: dict
    optimizer: tuple
    key: jax.Array
    seen: np.ndarray


def state(seed=0, width=3):
    values = jax.random.normal(jax.random.key(seed), (4, width))
    params = {"conv1": {"kernel": values, "bias": jnp.zeros((width,))}}
    return State(
        jnp.int32(seed),
        params,
        optax.sgd(0.1, momentum=0.9).init(params),
        jax.random.key_data(jax.random.key(seed)),
        np.array([[True, False, True]]),
    )


def assert_same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def data_files(directory, name):
    folder = directory / json.loads((directory / f"{name}.json").read_text())["folder"]
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_a_training_state_comes_back_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path, 7, state(1))
    back = checkpoint.restore(tmp_path, state(2))
    assert isinstance(back, State) and isinstance(
        back.params["conv1"]["bias"], jax.Array
    )
    assert isinstance(back.seen, np.ndarray)
    assert_same_bits(back, state(1))
    shapes = jax.eval_shape(lambda: state(2)._replace(seen=None))
    assert_same_bits(
        checkpoint.restore(tmp_path, shapes._replace(seen=np.zeros((1, 3), bool))),
        state(1),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32"])
def test_awkward_values_and_shapes_come_back_bit_for_bit(tmp_path, dtype):
    tree = [
        np.array([0.0, -0.0, 1.5, 3], dtype),
        np.array(3, dtype),
        np.zeros((0, 4), dtype),
        np.arange(6, dtype=dtype).reshape(2, 3).T,
    ]
    if dtype.startswith("float"):
        tree.append(
            np.array([np.nan, -np.nan, np.inf, np.finfo(dtype).tiny / 4], dtype)
        )
    checkpoint.save(tmp_path, 0, tree)
    assert_same_bits(checkpoint.restore(tmp_path, tree), tree)


def test_leaves_go_back_to_the_devices_they_were_on(tmp_path):
    device = jax.devices()[-1]
    here = {"a": jax.device_put(jnp.arange(3.0), device)}
    checkpoint.save(tmp_path, 1, here)
    assert checkpoint.restore(tmp_path, here)["a"].devices() == {device}


def test_the_last_steps_and_the_named_ones_stay(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(tmp_path, "best", state(1))
    for step in (1, 2, 9, 10):
        checkpoint.save(tmp_path, step, state(step))
    checkpoint.save(tmp_path, "best", state(9))
    assert checkpoint.steps(tmp_path) == [9, 10] and checkpoint.latest(tmp_path) == 10
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3
    assert_same_bits(checkpoint.restore(tmp_path, state(), "best"), state(9))
    assert_same_bits(checkpoint.restore(tmp_path, state(), 9), state(9))
    checkpoint.save(tmp_path, 10, state(11))  # the same step again
    assert_same_bits(checkpoint.restore(tmp_path, state()), state(11))
    checkpoint.save(tmp_path, 11, state(11), keep=1)
    assert checkpoint.steps(tmp_path) == [11]
    checkpoint.save(tmp_path, 1, np.arange(3), keep=1)  # begun again: the new one stays
    np.testing.assert_array_equal(
        checkpoint.restore(tmp_path, np.zeros(3, int), 1), np.arange(3)
    )


def test_every_flipped_byte_is_reported_by_file_name(tmp_path):
    checkpoint.save(tmp_path, 3, state())
    for file in [*data_files(tmp_path, 3), tmp_path / "3.json"]:
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            flipped = bytearray(whole)
            flipped[place] ^= 1
            file.write_bytes(flipped)
            with pytest.raises(CheckpointError, match=file.name):
                checkpoint.restore(tmp_path, state())
        file.write_bytes(whole)
    assert_same_bits(checkpoint.restore(tmp_path, state()), state())


def test_a_truncated_or_missing_file_is_reported_by_name(tmp_path):
    checkpoint.save(tmp_path, 3, state())
    file = max(data_files(tmp_path, 3), key=lambda file: file.stat().st_size)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(
        CheckpointError, match=f"{file.name} has {len(whole) - 1} bytes"
    ):
        checkpoint.restore(tmp_path, state())
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name} is missing"):
        checkpoint.restore(tmp_path, state())
    with pytest.raises(
        CheckpointError, match="4.json is missing; checkpoints there: 3"
    ):
        checkpoint.restore(tmp_path, state(), 4)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        checkpoint.restore(tmp_path / "other", state())


def test_another_architecture_is_refused_by_key(tmp_path):
    checkpoint.save(tmp_path, 3, state(width=3))
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(tmp_path, state(width=6))
    assert (
        "params.conv1.kernel is float32[4,3] in the checkpoint and float32[4,6] here"
        in str(error.value)
    )
    other = state()._replace(step=jnp.float32(0))
    with pytest.raises(CheckpointError, match=r"step is int32\[\] .* float32\[\] here"):
        checkpoint.restore(tmp_path, other)
    more = state()._replace(params=state().params | {"conv2": jnp.zeros(2)})
    with pytest.raises(
        CheckpointError, match="params.conv2 is absent in the checkpoint"
    ):
        checkpoint.restore(tmp_path, more)
    with pytest.raises(CheckpointError, match=r"seen is bool\[1,3\] .* absent here"):
        checkpoint.restore(tmp_path, state()._replace(seen=None))


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 3, state())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for where, name in ((os, "fsync"), (checkpoint.ocp.Checkpointer, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full)
            message = r"could not be written .* No space left .* untouched \(3\)"
            with pytest.raises(CheckpointError, match=message):
                checkpoint.save(tmp_path, 4, state(4))
        assert len(list(tmp_path.iterdir())) == 2  # nothing half-written stays
    assert_same_bits(checkpoint.restore(tmp_path, state()), state())


FULL = """
import resource, sys, numpy as np
from lensjax import checkpoint
noise = {"a": np.random.default_rng(1).random(100_000)}
checkpoint.save(sys.argv[1], 1, noise)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(sys.argv[1], 2, noise)
except checkpoint.CheckpointError as error:
    assert "2 could not be written" in str(error) and "(1)" in str(error), error
    checkpoint.restore(sys.argv[1], noise, 1)
    print("refused")
"""


def test_a_write_that_the_system_refuses_leaves_the_former_checkpoint(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("refused\n", "")
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import os, signal, sys, numpy as np
from lensjax import checkpoint
checkpoint.save(sys.argv[1], 1, {"a": np.arange(9)})
setattr(os, sys.argv[2], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
checkpoint.save(sys.argv[1], 2, {"a": np.zeros(9, int)})
"""


def test_sigkill_before_the_commit_leaves_the_former_checkpoint(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), "replace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2  # one torn
    assert checkpoint.latest(tmp_path) == 1
    back = checkpoint.restore(tmp_path, {"a": np.zeros(9, int)})
    np.testing.assert_array_equal(back["a"], np.arange(9))
    checkpoint.save(tmp_path, 2, {"a": np.zeros(9, int)})
    assert len(list(tmp_path.iterdir())) == 4  # two checkpoints, the torn one gone


def test_two_jobs_in_one_run_folder(tmp_path):
    with checkpoint.lock(tmp_path / "run"):
        with pytest.raises(LockError, match=f"in use by process {os.getpid()} on "):
            with checkpoint.lock(tmp_path / "run"):
                pass
    with checkpoint.lock(tmp_path / "run"):
        pass


@pytest.mark.parametrize("step", [-1, "../x", "", "a-b", True, 1.5])
def test_odd_names_are_refused(tmp_path, step):
    with pytest.raises(ValueError, match="step must be"):
        checkpoint.save(tmp_path, step, state())


def test_what_is_no_array_of_numbers_is_refused_by_key(tmp_path):
    with pytest.raises(ValueError, match="key is a typed random key"):
        checkpoint.save(tmp_path, 1, {"key": jax.random.key(0)})
    with pytest.raises(ValueError, match="name is no array of numbers"):
        checkpoint.save(tmp_path, 1, {"name": "lens"})
    with pytest.raises(ValueError, match="name is no array of numbers"):
        checkpoint.save(tmp_path, 1, {"name": np.array([{}])})
    assert list(tmp_path.iterdir()) == []
