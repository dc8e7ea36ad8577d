"""From a folder of cutouts to a table of lenses: one row a file, broken ones flagged.

A broken file gets NaN, its flags and a message; it never stops the others.  A bad
argument (nothing to read) stops at once.  `predicted` is about the table.
"""

import functools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table

from lensjax import parameters
from lensjax.catalogue import cutouts, quality
from lensjax.catalogue.folders import find, object_id, text
from lensjax.learning import predicted
from lensjax.learning.predicted import is_fatal, summary
from lensjax.parameters import WITHOUT_SHEAR, Space
from lensjax.storage.parquet import check_writable, read, write
from lensjax.storage.processes import follow_parent
from lensjax.survey import Survey

__all__ = [
    "check_writable",
    "find",
    "is_fatal",
    "predict",
    "read",
    "summary",
    "write",
]


class _Row(NamedTuple):
    """What came of one file; `pixels` is None where there is nothing to predict."""

    pixels: np.ndarray | None
    shift: float  # [arcsec]
    flags: dict[str, str]  # flag -> message


def predict(
    model: Callable[[np.ndarray], Any],
    paths: Sequence[str | os.PathLike],
    survey: Survey,
    *,
    space: Space = WITHOUT_SHEAR,
    trained: tuple[float, float] | None = None,
    centred: bool = True,
    batch_size: int = 256,
    processes: int = 0,
    provenance: dict | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Predict a lens for each cutout.

    Parameters
    ----------
    model : callable
        images (n, size, size, band) float32 in the survey's counts, to (n, len(space))
        in [arcsec] and pure numbers, or to arrays (n,) by name: those of the space, and
        what else shall be in the table (see `predicted.made`).  n is the same in every
        call, so that it compiles once.
    paths : sequence
        One file an object; the rows come in this order.
    space : tuple of parameters.Parameter
        What the model's numbers are: the five of an SIE, in any order, and others.
    trained : (float, float)
        Least and largest theta_E [arcsec] of the training; others are flagged.
    centred : bool
        Whether the model knows lenses in the middle of their images only, so that
        others are flagged.
    processes : int
        Files are read ahead, one batch, by so many processes, which take seconds to
        start (and want the `__main__` guard of multiprocessing in a script), or by a
        thread of this one where it is 0.
    provenance : dict
        What is known of the model, for the table's meta.
    progress : callable
        Called with (files done, files) after every batch.

    Returns
    -------
    Table
        Columns id, theta_E_arcsec, ex, ey, center_x_arcsec, center_y_arcsec, the
        space's others, q, phi_rad, flags, message, file, and those of `model`'s own;
        numbers are NaN where a flag is in `predicted.FATAL`.
    """
    if missing := [p.name for p in WITHOUT_SHEAR if p not in space]:
        raise ValueError(f"the space has no {', '.join(missing)}: add them")
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("processes", processes, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}")
    paths = [os.fspath(p) for p in paths]
    step = min(batch_size, max(1, len(paths)))
    shape = (step, survey.image_size, survey.image_size, len(survey.bands))
    names = parameters.names(space)
    values: dict[str, np.ndarray] = {}
    flags: list[dict[str, str]] = []
    load = functools.partial(_load, survey=survey)
    with _readers(processes) as pool:

        def start(at: int):  # a batch ahead, no more: memory does not grow with files
            try:
                return pool.map(load, paths[at : at + step], chunksize=8)
            except BrokenProcessPool:
                return map(load, paths[at : at + step])

        def read(ahead: Iterable[_Row], at: int) -> list[_Row]:
            try:
                return list(ahead)
            except BrokenProcessPool:  # killed, for want of memory perhaps: go on alone
                return [load(path) for path in paths[at : at + step]]

        ahead = start(0)
        for at in range(0, len(paths), step):
            rows, ahead = read(ahead, at), start(at + step)
            for name, some in _predict(model, rows, shape, names).items():
                whole = values.setdefault(name, np.full(len(paths), np.nan))
                whole[at : at + len(rows)] = some
            known = () if centred else ("decentred",)
            for row in rows:
                flags.append({f: m for f, m in row.flags.items() if f not in known})
            if progress is not None:
                progress(at + len(rows), len(paths))
    values = {name: np.full(len(paths), np.nan) for name in names} | values
    predicted.check(values, flags, trained)
    ids = [object_id(path) for path in paths]
    count = Counter(ids)
    for name, row in zip(ids, flags, strict=True):
        if count[name] > 1:
            row["duplicate_id"] = f"{count[name]} files are called {name}: see `file`"
    return predicted.made(ids, paths, values, flags, space, survey, provenance or {})


def _readers(processes: int) -> Executor:
    """Who reads files: astropy holds Python's lock, so that threads share one core."""
    if not processes:
        return ThreadPoolExecutor(1)
    # spawned: a fork of a process that runs JAX may hang
    return ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), follow_parent
    )


def _load(path: str, survey: Survey) -> _Row:
    try:
        image = quality.prepare(cutouts.read(path, survey.bands), survey)
    except cutouts.CutoutError as error:
        return _Row(None, 0.0, {error.flag: str(error)})
    except Exception as error:  # one object must never stop the others
        return _Row(None, 0.0, {"unreadable": f"{text(path)}: {error!r}"})
    usable = not is_fatal(image.flags)
    return _Row(image.pixels if usable else None, image.shift, image.flags)


def _predict(
    model: Callable[[np.ndarray], Any],
    rows: Sequence[_Row],
    shape: tuple[int, ...],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Run the model on a batch: arrays (len(rows),), NaN for rows without pixels."""
    good = [k for k, row in enumerate(rows) if row.pixels is not None]
    if not good:
        return {}
    # short and broken batches are filled up with their first good image: one shape, and
    # nothing unusual for the network to see
    images = np.empty(shape, np.float32)
    images[:] = rows[good[0]].pixels
    for k in good:
        images[k] = rows[k].pixels
    found = model(images)
    if not isinstance(found, dict):
        found = np.asarray(found)
        wanted = (shape[0], len(names))
        if found.shape != wanted:
            raise ValueError(
                f"the model predicted {found.shape} for images {shape}: needs {wanted}"
            )
        found = dict(zip(names, found.T, strict=True))
    elif missing := [name for name in names if name not in found]:
        raise ValueError(f"the model predicted no {', '.join(missing)}")
    made = {}
    for name, numbers in found.items():
        made[name] = np.full(len(rows), np.nan)
        made[name][good] = np.asarray(numbers, dtype=np.float64)[good]
    # from the crop's centre to the file's
    predicted.move(made, -np.array([row.shift for row in rows]))
    return made
