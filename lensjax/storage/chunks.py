"""Work on many objects that may be killed at any time: parts, each whole or absent.

A part is the stamps of its objects that can be used, one row each, in `00012.npy`, and
`00012.json`, which comes last: what was measured and said of each object, and the
SHA-256 of both.  A part whose sums do not agree counts as absent and is made again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lensjax.storage import atomic, processes, sealed

CHUNK = 4  # objects that a process reads before it answers

Arrays = dict[str, np.ndarray]


class Found(NamedTuple):
    """What came of one object; without stamps it is refused."""

    stamps: Arrays
    numbers: Arrays
    flags: dict[str, str]  # flag -> message; the first is why it is refused


class Task(NamedTuple):
    """How objects are read: `read` in several processes, `measure` in this one."""

    names: Sequence[str]  # of the objects, in their order
    items: Sequence[Any]  # what `read` is given of each
    read: Callable[[Any], Found]
    measure: Callable[[list[Found]], tuple[Arrays, dict[str, np.ndarray]]]
    size: int  # objects in a part


class Part(NamedTuple):
    """A part that is there."""

    path: Path  # of its stamps
    names: list[str]  # of all its objects
    flags: list[dict[str, str]]
    row: list[int | None]  # of each object among the stamps; None: refused
    numbers: dict[str, list]  # by row
    shapes: dict[str, tuple[int, ...]]  # of a stamp


def make(
    folder: Path,
    task: Task,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Part]:
    """Read all objects, those of finished parts excepted, and return the parts.

    `progress` is told the number of objects done, several times a second: what it
    raises ends the work, and loses no finished part.  OSError where the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.clean(folder)
    spans = [
        slice(start, min(start + task.size, len(task.names)))
        for start in range(0, len(task.names), task.size)
    ]
    made, done = {}, 0
    for number, span in enumerate(spans):
        part = load(folder, number)
        if part is not None and part.names == list(task.names[span]):
            made[number] = part
            done += len(part.names)
            progress(done)
    left = [number for number in range(len(spans)) if number not in made]
    items = [item for number in left for item in task.items[spans[number]]]
    read = partial(_safely, task.read)
    reading = processes.ordered(read, items, workers, CHUNK, lambda: progress(done))
    try:
        for number in left:
            found = []
            for one in islice(reading, len(task.names[spans[number]])):
                found.append(one)
                done += 1
                progress(done)
            names = list(task.names[spans[number]])
            made[number] = _write(folder, number, names, found, task.measure)
    finally:
        reading.close()
    return [made[number] for number in range(len(spans))]


def load(folder: Path, number: int) -> Part | None:
    """A finished part; None where it is absent or damaged."""
    try:
        manifest = json.loads((folder / f"{number:05}.json").read_bytes())
        path, written = folder / f"{number:05}.npy", manifest["sha256"]
        if not sealed.holds(manifest):
            return None
        if written is not None and sealed.digest(path)["sha256"] != written:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _part(path, manifest)


def stamps(part: Part, row: int) -> Arrays:
    """The stamps of one object, read from the part's file."""
    record = np.load(part.path, mmap_mode="r")[row]
    return {name: np.array(record[name]) for name in record.dtype.names}


def framed(stamp: np.ndarray, size: int) -> np.ndarray:
    """A stamp (m, m, ...) on zeros (size, size, ...), or cut: about the same middle."""
    edge = (size - stamp.shape[0]) // 2
    if edge <= 0:
        return stamp[-edge : stamp.shape[0] + edge, -edge : stamp.shape[0] + edge]
    return np.pad(stamp, ((edge, edge), (edge, edge)) + ((0, 0),) * (stamp.ndim - 2))


# --- writing --------------------------------------------------------------------------


def _write(folder, number, names, found, measure) -> Part:
    path, digest = folder / f"{number:05}.npy", None
    kept = [one for one in found if one.stamps]
    stacked, numbers = measure(kept) if kept else ({}, {})
    if kept:
        layout = [(name, a.dtype, a.shape[1:]) for name, a in stacked.items()]
        table = np.empty(len(kept), layout)
        for name, array in stacked.items():
            table[name] = array

        def save(file):
            nonlocal digest
            # not a file to numpy, which would hide what a full disk says
            hashed = sealed.Hashed(file)
            np.lib.format.write_array(hashed, table, allow_pickle=False)
            digest = hashed.sha256()

        atomic.write(path, save)
    rows = iter(range(len(kept)))
    manifest = {
        "names": names,
        "flags": [one.flags for one in found],
        "row": [next(rows) if one.stamps else None for one in found],
        "numbers": {name: np.asarray(a).tolist() for name, a in numbers.items()},
        "shapes": {name: a.shape[1:] for name, a in stacked.items()},
        "sha256": digest,
    }
    atomic.write(folder / f"{number:05}.json", json.dumps(sealed.seal(manifest)))
    return _part(path, manifest)


def _part(path: Path, manifest: Mapping[str, Any]) -> Part:
    shapes = {name: tuple(shape) for name, shape in manifest["shapes"].items()}
    rest = {name: manifest[name] for name in ("names", "flags", "row", "numbers")}
    return Part(path, **rest, shapes=shapes)


# --- reading --------------------------------------------------------------------------


def _safely(read: Callable[[Any], Found], item: Any) -> Found:
    """What comes of an item; a fault that nobody thought of is one more flag."""
    try:
        found = read(item)
    except Exception as error:
        text = " ".join(str(error).split())
        return Found({}, {}, {"failed": f"{type(error).__name__}: {text}"})
    return found
