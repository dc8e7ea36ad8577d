"""What fails ends in one line that names file and remedy, and leaves nothing behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import lensjax
from lensjax.catalogue import cutouts
from lensjax.commands import config, failures, overrides, provenance, run_folder
from lensjax.commands.config import ConfigError, PredictConfig
from lensjax.learning import prediction
from lensjax.storage import checkpoint
from lensjax.storage.checkpoint import CheckpointError
from lensjax.survey import HSC

ODD = ["a,b", "x=1", "k[2]{3}", "it's", 'quo"te', "end\\", "sp ace", "ü", "$HOME"]
ODD += ["${x}", "(a)", "~t", "-d", "a:b", "%s", "#h", "1e5", "true", "@", "a'\\'b"]


@pytest.mark.parametrize("name", ODD)
def test_a_path_of_any_spelling_is_taken_as_it_is(name):
    for path in (f"/some/where/{name}", name):
        composed = config.compose("predict", [f"cutouts={path}", "out=o.parquet"])
        assert config.typed(composed, PredictConfig).cutouts == path


def test_a_path_that_is_quoted_or_left_out_means_what_it_did():
    for line, expected in (("run_dir='a b'", "a b"), ("run_dir=null", None)):
        composed = config.compose("predict", [line, "cutouts=c", "out=o.parquet"])
        assert composed.run_dir == expected


@pytest.mark.parametrize(
    "line",
    [
        ["+hydra.callbacks.a._target_=antigravity.X"],
        ["+hydra.callbacks={a:{_target_:antigravity.X}}"],
        ["hydra.searchpath=[file:///tmp]"],
        ["-m", "+hydra.callbacks.a._target_=antigravity.X"],
        ["--config-dir", "/tmp"],
        ["--config-dir=/tmp"],
        ["-cd=/tmp"],
        ["--experimental-rerun", "/tmp/x.pickle"],
    ],
)
def test_configurations_cannot_name_code_or_folders_of_others(
    line, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["lensjax train", *line])
    with pytest.raises(SystemExit) as ended:
        config.check("train")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_hydras_own_flags_that_read_nothing_are_taken():
    overrides.check_flags(["-m", "fold=0,1", "--cfg", "job", "--multirun", "--cfg=job"])


@pytest.mark.parametrize("ending", ["/dev/full", "closed"])
def test_output_that_nobody_takes_does_not_end_the_work(ending):
    code = (
        "import sys; from lensjax.commands import progress\n"
        "for k in range(2000): progress.say(f'line {k} ' + 'x' * 100)\n"
        "with progress.track('working', 5, 'things') as update: update(5)\n"
        "print('done', file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    if ending == "closed":
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        child.stdout.readline()
        child.stdout.close()
        said, status = child.stderr.read(), child.wait()
        child.stderr.close()
    else:
        with open(ending, "w") as full:
            done = subprocess.run(command, stdout=full, stderr=-1, text=True)
        said, status = done.stderr, done.returncode
    assert (said, status) == ("done\n", 0)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{", b"[1]", b"null"])
def test_a_damaged_record_of_a_run_is_told_by_its_name(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    for ask in (run_folder.has_final, lambda f: run_folder.facts(f, "summary.json")):
        with pytest.raises(ConfigError, match=r"summary.json is missing or damaged"):
            ask(tmp_path)
    with pytest.raises(ConfigError, match="other.json is missing"):
        run_folder.facts(tmp_path, "other.json")
    (tmp_path / "provenance.json").write_text('{"catalogue": "none"}')
    with pytest.raises(ConfigError, match="names no catalogue"):
        run_folder.fingerprint(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_damaged_arrays_and_tables_of_a_run_are_told_by_their_names(tmp_path, cut):
    path = tmp_path / "held_out.npz"
    np.savez(path, id=np.array(["a", "b"]), mock=np.zeros((2, 4, 4)))
    assert run_folder.arrays(tmp_path, path.name)["id"].tolist() == ["a", "b"]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConfigError, match="held_out.npz is missing or damaged"):
        run_folder.arrays(tmp_path, path.name)
    (tmp_path / "held_out.parquet").write_bytes(b"PAR1"[:cut])
    with pytest.raises(ConfigError, match="held_out.parquet is missing or damaged"):
        run_folder.table(tmp_path, "held_out.parquet")


def test_arrays_of_objects_are_refused_and_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "held_out.npz", id=np.array([Trap()], object))
    with pytest.raises(ConfigError, match="held_out.npz is missing or damaged"):
        run_folder.arrays(tmp_path, "held_out.npz")
    assert not (tmp_path / "sprung").exists()
    with zipfile.ZipFile(tmp_path / "held_out.npz") as file:
        assert file.namelist() == ["id.npy"]  # it was there to be sprung


def test_what_decides_predictions_is_sealed_with_a_checkpoint(tmp_path):
    state, about = {"a": np.arange(3.0)}, {"scaling": "asinh", "bands": ["G", "R"]}
    path = checkpoint.save(tmp_path, 1, state, about=about)
    checkpoint.restore(tmp_path, state, about=about)
    checkpoint.restore(tmp_path, state)
    with pytest.raises(
        CheckpointError, match="scaling = asinh, not none: the settings"
    ):
        checkpoint.restore(tmp_path, state, about=about | {"scaling": "none"})
    with pytest.raises(CheckpointError, match="zero_point = None, not 27"):
        checkpoint.restore(tmp_path, state, about=about | {"zero_point": 27})
    manifest = json.loads(path.read_text())
    manifest["about"]["scaling"] = "none"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.restore(tmp_path, state)
    # one of a version that knew of no such thing
    checkpoint.save(tmp_path, 2, state)
    checkpoint.restore(tmp_path, state, about=about)


def test_failures_of_the_machine_come_with_their_remedy():
    one = failures.in_one_line
    asked = SimpleNamespace(batch_size=64)
    assert "try batch_size=32" in one(MemoryError(), asked)
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
    assert "try batch_size=32" in one(error, asked)
    assert "less at a time" in one(MemoryError(), SimpleNamespace())
    full = OSError(errno.ENOSPC, "No space left on device", "a/b.json")
    assert one(full, asked).startswith("a/b.json: the disk is full: make room")
    assert "disk is full" in one(RuntimeError("write: No space left on device"), asked)
    denied = PermissionError(errno.EACCES, "Permission denied", "c")
    assert one(denied, asked).startswith("c: Permission denied")
    assert one(ValueError("a fault of ours"), asked) is None


READERS = """
import multiprocessing, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from lensjax.storage.processes import follow_parent

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's children ignore it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, context, follow_parent)
    list(pool.map(time.sleep, [0.2, 0.2]))
    print(*pool._processes, flush=True)
    list(pool.map(time.sleep, [600, 600]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_readers_never_outlive_their_parent(tmp_path, number):
    path = tmp_path / "readers.py"
    path.write_text(READERS)
    parent = subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with parent:
        children = [int(word) for word in parent.stdout.readline().split()]
        assert len(children) == 2 and all(map(alive, children))
        parent.send_signal(number)
        parent.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))


def alive(number):
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_no_archive_is_unpacked(tmp_path):
    """A packed folder may hold ../ and is the user's to unpack."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("../evil.fits", "x")
    for folder in (tmp_path, tmp_path / "a.zip"):
        try:
            found = prediction.find(str(folder))
        except ValueError as error:
            assert "file ends in .fits" in str(error)
        else:
            with pytest.raises(cutouts.CutoutError, match="not as FITS does"):
                cutouts.read(found[0], HSC)
    assert os.listdir(tmp_path) == ["a.zip"]
    assert not (tmp_path.parent / "evil.fits").exists()


def test_nothing_is_served():
    """No module opens a port, so that none is open to others."""
    for path in Path(lensjax.__file__).parent.rglob("*.py"):
        opens = re.search(
            r"\b(socketserver|http\.server)\b|\.(bind|listen)\(", path.read_text()
        )
        assert not opens, (path, opens)


def test_the_environment_and_its_secrets_stand_in_no_record(monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "HSC_SSP_CAS_PASSWORD", "TOKEN"):
        monkeypatch.setenv(name, f"secret of {name}")
    record = json.dumps(provenance.collect(PredictConfig(cutouts="c", out="o.csv")))
    assert "settings" in record and "secret of" not in record
