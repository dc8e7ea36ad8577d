"""Checkpoints that are whole or absent, and known to be unchanged.

Orbax writes the arrays; this is the only file that imports it.  A checkpoint is a
folder of its files and, beside it, a manifest that names that folder, every file in it
with its SHA-256, and every leaf of the state with shape and dtype:

    checkpoints/12.json   checkpoints/12-3f9c01ab/...      a step
    checkpoints/best.json checkpoints/best-77e0d21c/...    a named one

The manifest comes last and in one rename, so that a process killed or a disk filled in
mid-save leaves the former checkpoint as it was; a folder that no manifest names is
torn, is never read, and goes at the next save.
"""

import contextlib
import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lensjax.storage import atomic, sealed
from lensjax.storage.locks import LockError as LockError
from lensjax.storage.locks import lock as lock

_FORMAT = 1
_NAME = re.compile(r"[0-9]+|[A-Za-z][A-Za-z0-9_]*")
_FOLDER = re.compile(rf"(?:{_NAME.pattern})-[0-9a-f]{{8}}(?:\.orbax.*)?")
_PLAIN = "biufcV"  # dtype kinds: no objects, no strings; V is bfloat16 and its like


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, is damaged, or belongs to something else."""


def save(
    directory: str | Path,
    step: int | str,
    state: Any,
    keep: int = 2,
    about: dict[str, Any] | None = None,
) -> Path:
    """Write `state` as checkpoint `step` and return its manifest's path.

    state: a pytree of numpy or jax arrays (random keys as ``jax.random.key_data``).
    step: a number, of which the last `keep` stay, or a name such as "best", which
    replaces the former one of that name and stays.  about: plain JSON of what the
    state is good for, which is sealed with it.  CheckpointError where the disk refuses;
    what was saved before is then untouched.
    """
    name, directory = _checked(step), Path(directory).absolute()
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    leaves = {key: _plain(key, leaf) for key, leaf in _flatten(state).items()}
    filled = {key: leaf for key, leaf in leaves.items() if leaf.size}
    if not filled:
        raise ValueError("the state has no numbers")
    folder = directory / f"{name}-{secrets.token_hex(4)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Orbax takes no empty arrays; the manifest remembers them.
        with _quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
            writer.save(folder, args=ocp.args.StandardSave(filled))
        manifest = _commit(folder, directory / f"{name}.json", step, leaves, about)
    except Exception as error:  # tensorstore reports a full disk in several ways
        _remove(folder)
        kept = ", ".join(map(str, steps(directory))) or "none"
        raise CheckpointError(
            f"checkpoint {step} could not be written to {directory}: {error}; "
            f"earlier checkpoints are untouched ({kept})"
        ) from error
    _prune(directory, keep, manifest)
    return manifest


def restore(
    directory: str | Path,
    like: Any,
    step: int | str | None = None,
    about: dict[str, Any] | None = None,
) -> Any:
    """Read checkpoint `step` (the latest by default) into the structure of `like`.

    like: a pytree of arrays or ``jax.ShapeDtypeStruct``.  Comes back bit for bit, as
    numpy arrays, or on the devices of `like` where that has jax arrays.
    CheckpointError, naming the file or the key, where a byte has changed, a file is
    missing, keys, shapes and dtypes are not those of `like`, or what it was saved with
    is not what `about` says, where both say something.
    """
    directory = Path(directory).absolute()
    if step is None and (step := latest(directory)) is None:
        raise CheckpointError(f"no checkpoint in {directory}")
    path = directory / f"{_checked(step)}.json"
    manifest = _read(path)
    wanted = _flatten(like)
    _compare(path, manifest["leaves"], wanted)
    _compare_about(path, manifest.get("about"), about)
    folder = directory / manifest["folder"]
    for name, entry in manifest["files"].items():
        _verify(folder / name, entry)
    # Orbax casts in silence: shapes and dtypes are those of the manifest by now.
    arrays = {key: np.empty(leaf.shape, leaf.dtype) for key, leaf in wanted.items()}
    filled = {key: array for key, array in arrays.items() if array.size}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        arrays |= reader.restore(folder, args=ocp.args.StandardRestore(filled))
    leaves = [
        jax.device_put(arrays[key], leaf.sharding)
        if isinstance(leaf, jax.Array)
        else np.asarray(arrays[key])
        for key, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def latest(directory: str | Path) -> int | None:
    """Return the highest numbered step that is complete, None where there is none."""
    return max(steps(directory), default=None)


def steps(directory: str | Path) -> list[int]:
    """Return the numbered steps that are complete, in order."""
    names = [path.stem for path in Path(directory).glob("*.json")]
    return sorted(int(name) for name in names if name.isdecimal())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Orbax's threads log the traceback of an error that `save` reports in one line.
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _checked(step: int | str) -> str:
    if isinstance(step, bool) or not _NAME.fullmatch(str(step)):
        raise ValueError(f"step must be a number >= 0 or a plain name, got {step!r}")
    return str(step)


def _flatten(tree: Any) -> dict[str, Any]:
    # Leaves by a readable path such as "params.conv1.kernel", in tree order.
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths = [
        jax.tree_util.keystr(path, simple=True, separator=".") or "state"
        for path, _ in named
    ]
    if len(set(paths)) < len(paths):
        raise ValueError("two leaves of the state have the same path")
    return {
        path: leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        for path, (_, leaf) in zip(paths, named, strict=True)
    }


def _plain(key: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        raise ValueError(f"{key} is a typed random key: save jax.random.key_data of it")
    array = np.asarray(leaf)
    if array.dtype.kind not in _PLAIN:
        raise ValueError(f"{key} is no array of numbers: dtype {array.dtype}")
    return array


def _describe(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _commit(
    folder: Path, path: Path, step: int | str, leaves: dict, about: dict | None
) -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    manifest = {
        "format": _FORMAT,
        "step": step,
        "folder": folder.name,
        "leaves": {key: _describe(leaf) for key, leaf in leaves.items()},
        "files": {
            # on the disk before the manifest says so
            str(f.relative_to(folder)): sealed.digest(f, sync=True)
            for f in files
        },
    }
    if about is not None:
        manifest["about"] = about
    text = json.dumps(sealed.seal(manifest), indent=1)
    atomic.write(path, text, sync=True)  # the commit
    return path


def _read(path: Path) -> dict:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise CheckpointError(f"{path} is missing; checkpoints there: {known}")
    try:
        manifest = json.loads(path.read_bytes())
        whole = sealed.holds(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not whole:
        raise CheckpointError(f"{path} is damaged: its SHA-256 has changed")
    if manifest["format"] != _FORMAT:
        raise CheckpointError(f"{path} has format {manifest['format']}, not {_FORMAT}")
    return manifest


def _compare(path: Path, stored: dict[str, str], wanted: dict[str, Any]) -> None:
    wrong = []
    for key in [*stored, *(key for key in wanted if key not in stored)]:
        ours = _describe(wanted[key]) if key in wanted else "absent"
        theirs = stored.get(key, "absent")
        if ours != theirs:
            wrong.append(f"{key} is {theirs} in the checkpoint and {ours} here")
    if wrong:
        more = f" (and {len(wrong) - 4} more)" if len(wrong) > 4 else ""
        raise CheckpointError(
            f"{path} is of another kind: {'; '.join(wrong[:4])}{more}"
        )


def _compare_about(path: Path, stored: dict | None, wanted: dict | None) -> None:
    if stored is None or wanted is None:  # what was saved before there was any
        return
    wanted = json.loads(json.dumps(wanted))  # as it comes back from a file
    for key in [*stored, *(key for key in wanted if key not in stored)]:
        if stored.get(key) != wanted.get(key):
            raise CheckpointError(
                f"{path} was saved with {key} = {stored.get(key)}, not "
                f"{wanted.get(key)}: the settings have been changed since"
            )


def _verify(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    found = sealed.digest(path)
    if found["bytes"] != entry["bytes"]:
        raise CheckpointError(
            f"{path} has {found['bytes']} bytes, should have {entry['bytes']}"
        )
    if found != entry:
        raise CheckpointError(f"{path} is damaged: its SHA-256 has changed")


def _prune(directory: Path, keep: int, new: Path) -> None:
    # Manifests first: a folder without one is nothing, a manifest without one an error.
    for step in steps(directory)[:-keep]:
        if (path := directory / f"{step}.json") != new:  # a run that began again
            path.unlink(missing_ok=True)
    try:
        named = {_read(path)["folder"] for path in directory.glob("*.json")}
    except CheckpointError:
        return  # a damaged manifest: keep every folder, a person may want to look
    atomic.clean(directory)
    for path in directory.iterdir():
        if _FOLDER.fullmatch(path.name) and path.name not in named:
            _remove(path)


def _remove(path: Path) -> None:
    # Whatever a failed save may have left of this folder.
    for left in path.parent.glob(f"{path.name}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
