"""Files that are whole or absent, and records that carry their own digest."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest

from lensjax.storage import atomic, sealed


def test_a_file_is_the_former_or_the_new_one(tmp_path):
    path = tmp_path / "facts.json"
    atomic.write(path, "first")
    atomic.write(path, lambda file: file.write(b"second"))
    assert path.read_text() == "second"

    def failing(file):
        file.write(b"th")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, failing, sync=True)
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["facts.json"]
    # others may read it, as they may what the user makes by hand
    (tmp_path / "by_hand").touch()
    modes = [stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()]
    assert modes[0] == modes[1]


def test_what_a_kill_left_goes_and_nothing_else(tmp_path):
    child = "import os, sys; from lensjax.storage import atomic; "
    child += "atomic.write(sys.argv[1], lambda file: os._exit(9))"
    path = str(tmp_path / "a.bin")
    assert subprocess.run([sys.executable, "-c", child, path]).returncode == 9
    for name in ("notes.part", ".hidden"):
        (tmp_path / name).touch()
    assert len(os.listdir(tmp_path)) == 3
    atomic.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "notes.part"]


def test_digests_are_those_of_sha256(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS
    assert sealed.digest(path, sync=True) == {"bytes": 3, "sha256": known}
    with path.open("wb") as file:
        hashed = sealed.Hashed(file)
        hashed.write(b"a")
        hashed.write(b"bc")
    assert hashed.sha256() == known == sealed.digest(path)["sha256"]


def test_a_seal_knows_every_change_but_the_order_of_keys():
    record = sealed.seal({"b": [1, 2.5], "a": {"x": None}})
    text = b'{"a": {"x": null}, "b": [1, 2.5]}'
    assert record["seal"] == hashlib.sha256(text).hexdigest()
    back = json.loads(json.dumps(record, sort_keys=True))
    assert sealed.holds(back) and sealed.seal(back) == record
    assert not sealed.holds(back | {"b": [1, 2.6]})
    assert not sealed.holds(back | {"c": 0})
    with pytest.raises(KeyError):
        sealed.holds({"a": 1})
    other = sealed.seal({"a": 1}, [b"more"], key="sha256")
    assert sealed.holds(other, [b"mo", b"re"], key="sha256")
    assert not sealed.holds(other, [b"less"], key="sha256")
