"""From a folder of cutouts to a table of lenses: one row a file, broken ones flagged.

A broken file gets NaN, its flags and a message; it never stops the others.  A bad
argument (nothing to read, a place that cannot be written) stops at once.
"""

import functools
import glob
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Column, Table

from lensjax import __version__, sie
from lensjax.catalogue import cutouts, quality
from lensjax.storage.parquet import check_writable, read, write
from lensjax.survey import Survey

__all__ = ["check_writable", "find", "predict", "read", "run", "summary", "write"]

FATAL = quality.FATAL | {
    "nan_prediction": "the network answered NaN or infinity",
    "unphysical_theta_E": "the network answered an Einstein radius of zero or less",
}
"""Flags of rows without an answer."""

WARNING = quality.WARNING | {
    "unphysical_ellipticity": "|e| >= 1 predicted: clipped, the angle kept",
    "duplicate_id": "another file has the same name, perhaps in another folder",
}
"""Flags of rows with one."""

TARGETS = ("center_x_arcsec", "center_y_arcsec", "ex", "ey", "theta_E_arcsec")
"""What the model's five numbers are, in the paper's order."""

ELLIPTICITY_LIMIT = 0.999
"""|e| is clipped here: q = 0.022, the largest that still has a finite deflection."""

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
UNITS = {
    "theta_E_arcsec": "arcsec",
    "ex": None,
    "ey": None,
    "center_x_arcsec": "arcsec",
    "center_y_arcsec": "arcsec",
    "q": None,
    "phi_rad": "rad",
}
DESCRIPTIONS = {
    "theta_E_arcsec": "Einstein radius of kappa = theta_E / ((1 + q) r)",
    "ex": "(1 - q^2) / (1 + q^2) cos 2 phi",
    "ey": "(1 - q^2) / (1 + q^2) sin 2 phi",
    "center_x_arcsec": "lens centre from the centre of the file's image, along +x",
    "center_y_arcsec": "lens centre from the centre of the file's image, along +y",
    "q": "axis ratio of the mass",
    "phi_rad": "major axis of the mass, from +x towards +y",
    "flags": "comma-joined, empty when all is well",
}


class _Row(NamedTuple):
    """What came of one file; `pixels` is None where there is nothing to predict."""

    pixels: np.ndarray | None
    shift: float  # [arcsec]
    flags: dict[str, str]  # flag -> message


def is_fatal(flags: Iterable[str]) -> bool:
    """Whether any of the flags means that the row has no answer."""
    return any(flag not in WARNING for flag in flags)


def find(where: str | os.PathLike) -> list[str]:
    """List the cutouts of a folder, of a glob (`**` goes into folders), or one file.

    Of a folder: files ending in .fits, .fit or these with .gz, sorted, hidden ones left
    out; names alone are looked at, so a million files are one pass.

    Raises
    ------
    ValueError
        Nothing is there.
    """
    text = os.path.expanduser(os.fspath(where))
    if os.path.isdir(text):
        try:
            with os.scandir(text) as entries:
                names = sorted(e.name for e in entries if _is_cutout(e.name))
        except OSError as error:
            raise ValueError(f"cutouts={text}: {error.strerror}") from error
        if not names:
            raise ValueError(
                f"cutouts={text}: no file ends in {', '.join(SUFFIXES)}; give the "
                "folder that holds them, or a glob in quotes such as 'survey/**/*.fits'"
            )
        return [os.path.join(text, name) for name in names]
    # a name that exists is that file, even with a bracket in it; lexists: a broken link
    # is an object with a fault, not a bad argument
    if os.path.lexists(text):
        return [text]
    paths = sorted(p for p in glob.glob(text, recursive=True) if not os.path.isdir(p))
    if not paths:
        raise ValueError(f"cutouts={text}: nothing there; give a folder, glob or file")
    return paths


def predict(
    model: Callable[[np.ndarray], Any],
    paths: Sequence[str | os.PathLike],
    survey: Survey,
    *,
    targets: Sequence[str] = TARGETS,
    batch_size: int = 256,
    processes: int = 0,
    provenance: dict | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Predict a lens for each cutout.

    Parameters
    ----------
    model : callable
        images (n, size, size, band) float32 in the survey's counts, to (n, 5) in
        [arcsec] and pure numbers.  n is the same in every call, so that it compiles
        once.
    paths : sequence
        One file an object; the rows come in this order.
    targets : sequence of str
        The names of the model's five columns.
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
        Columns id, theta_E_arcsec, ex, ey, center_x_arcsec, center_y_arcsec, q,
        phi_rad, flags, message, file; numbers are NaN where a flag is in `FATAL`.
    """
    if sorted(targets) != sorted(TARGETS):
        raise ValueError(f"targets={tuple(targets)}: must be {TARGETS} in some order")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be 1 or more")
    paths = [os.fspath(p) for p in paths]
    _check_options({"processes": processes})
    step = min(batch_size, max(1, len(paths)))
    shape = (step, survey.image_size, survey.image_size, len(survey.bands))
    values = np.full((len(paths), len(targets)), np.nan)
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
            values[at : at + len(rows)] = _answer(model, rows, shape, targets)
            flags += [dict(row.flags) for row in rows]
            if progress is not None:
                progress(at + len(rows), len(paths))
    columns = dict(zip(targets, values.T, strict=True))
    _judge(columns, flags)
    ids = [_id(path) for path in paths]
    count = Counter(ids)
    for name, row in zip(ids, flags, strict=True):
        if count[name] > 1:
            row["duplicate_id"] = f"{count[name]} files are called {name}: see `file`"
    return _table(ids, paths, columns, flags, survey, provenance or {})


def summary(table: Table) -> str:
    """Say in a few lines how many rows have an answer, and how many each flag."""
    counts = table.meta["flags"]
    without = sum(is_fatal(_split(f)) for f in table["flags"])
    lines = [
        f"{len(table)} cutouts: {len(table) - without} predicted, {without} without"
    ]
    for flag, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        kind = "warning" if flag in WARNING else "no answer"
        meaning = (FATAL | WARNING).get(flag, "")
        lines.append(f"  {n:>7}  {flag:<24} {kind:<10} {meaning}")
    return "\n".join(lines)


def run(
    model: Callable[[np.ndarray], Any],
    cutouts: str | os.PathLike,
    out: str | os.PathLike,
    survey: Survey,
    *,
    strict: bool = False,
    overwrite: bool = False,
    echo: Callable[[str], None] = print,
    **options: Any,
) -> int:
    """Find, predict and write; the exit status of the command.

    0: written, whatever the flags.  3: written, but `strict` is set and some row has no
    answer.  2: a bad argument, nothing was read.  1: the table could not be written in
    the end.  `options` go to `predict`.
    """
    try:
        check_writable(out, overwrite)
        paths = find(cutouts)
        _check_options(options)
    except ValueError as error:
        echo(f"error: {error}")
        return 2
    table = predict(model, paths, survey, **options)
    try:
        write(table, out, overwrite)
    except (OSError, ValueError) as error:
        echo(f"error: out={out} was not written: {error}")
        return 1
    echo(summary(table))
    return 3 if strict and any(is_fatal(_split(f)) for f in table["flags"]) else 0


def _check_options(options: dict[str, Any]) -> None:
    for name, least in (("batch_size", 1), ("processes", 0)):
        if options.get(name, least) < least:
            raise ValueError(f"{name}={options[name]}: must be {least} or more")


def _readers(processes: int) -> Executor:
    """Who reads files: astropy holds Python's lock, so that threads share one core."""
    if not processes:
        return ThreadPoolExecutor(1)
    # spawned: a fork of a process that runs JAX may hang
    return ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _leave_signals_alone
    )


def _leave_signals_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer


def _is_cutout(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _text(name: str) -> str:
    """Make a file name storable: names need not be UTF-8, Parquet's strings must."""
    return os.fsencode(name).decode("utf-8", "replace")


def _id(path: str) -> str:
    name = os.path.basename(path)
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return _text(name)


def _split(flags: str) -> list[str]:
    return flags.split(",") if flags else []


def _load(path: str, survey: Survey) -> _Row:
    try:
        image = quality.prepare(cutouts.read(path, survey.bands), survey)
    except cutouts.CutoutError as error:
        return _Row(None, 0.0, {error.flag: str(error)})
    except Exception as error:  # one object must never stop the others
        return _Row(None, 0.0, {"unreadable": f"{_text(path)}: {error!r}"})
    usable = not is_fatal(image.flags)
    return _Row(image.pixels if usable else None, image.shift, image.flags)


def _answer(
    model: Callable[[np.ndarray], Any],
    rows: Sequence[_Row],
    shape: tuple[int, ...],
    targets: Sequence[str],
) -> np.ndarray:
    """Run the model on a batch; NaN for rows without pixels."""
    out = np.full((len(rows), len(targets)), np.nan)
    good = [k for k, row in enumerate(rows) if row.pixels is not None]
    if not good:
        return out
    # short and broken batches are filled up with their first good image: one shape, and
    # nothing unusual for the network to see
    images = np.empty(shape, np.float32)
    images[:] = rows[good[0]].pixels
    for k in good:
        images[k] = rows[k].pixels
    answer = np.asarray(model(images), dtype=np.float64)
    if answer.shape != (shape[0], len(targets)):
        raise ValueError(
            f"the model answered {answer.shape} for {shape}: needs {(shape[0], 5)}"
        )
    out[good] = answer[good]
    # from the crop's centre to the file's
    for axis in ("center_x_arcsec", "center_y_arcsec"):
        out[:, list(targets).index(axis)] -= [row.shift for row in rows]
    return out


def _judge(columns: dict[str, np.ndarray], flags: list[dict[str, str]]) -> None:
    """Flag answers that are no lens, in place; add q and phi.

    theta_E <= 0 has no nearest lens: the row becomes NaN, the message keeps the number.
    |e| >= 1 has: the same angle with |e| = ELLIPTICITY_LIMIT.
    """
    answers = np.array([columns[name] for name in TARGETS])
    answered = np.array([not is_fatal(row) for row in flags], dtype=bool)
    lost = answered & ~np.isfinite(answers).all(0)
    negative = answered & ~lost & (columns["theta_E_arcsec"] <= 0)
    for k in np.flatnonzero(lost):
        flags[k]["nan_prediction"] = "the network's answer is not finite: check its run"
    for k in np.flatnonzero(negative):
        flags[k]["unphysical_theta_E"] = (
            f"theta_E = {columns['theta_E_arcsec'][k]:.3g} arcsec predicted: no lens"
        )
    for name in TARGETS:
        columns[name][lost | negative] = np.nan
    e = np.hypot(columns["ex"], columns["ey"])
    steep = e > ELLIPTICITY_LIMIT
    for k in np.flatnonzero(steep):
        flags[k]["unphysical_ellipticity"] = f"|e| = {e[k]:.3g} predicted, clipped"
    with np.errstate(invalid="ignore"):
        factor = np.where(steep, ELLIPTICITY_LIMIT / np.where(steep, e, 1), 1)
    for name in ("ex", "ey"):
        columns[name] = columns[name] * factor
    names = ("theta_E_arcsec", "ex", "ey", "center_x_arcsec", "center_y_arcsec")
    lens = sie.SIE(*(columns[name].astype(np.float32) for name in names))
    columns["q"], columns["phi_rad"] = map(np.asarray, sie.axis_ratio(lens))


def _table(
    ids: list[str],
    paths: list[str],
    columns: dict[str, np.ndarray],
    flags: list[dict[str, str]],
    survey: Survey,
    provenance: dict,
) -> Table:
    # object columns: a million messages of fixed width would be gigabytes
    text = {
        "flags": [",".join(sorted(row)) for row in flags],
        "message": [
            _text("; ".join(f"{f}: {m}" for f, m in sorted(row.items())))
            for row in flags
        ],
        "file": [_text(path) for path in paths],
    }
    table = Table()
    table["id"] = Column(ids, dtype=object)
    for name, unit in UNITS.items():
        table[name] = Column(columns[name].astype(np.float32), unit=unit)
    for name, values in text.items():
        table[name] = Column(values, dtype=object)
    for name, description in DESCRIPTIONS.items():
        table[name].description = description
    table.meta = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"lensjax": __version__}
        | {name: version(name) for name in ("jax", "numpy", "astropy")},
        # plain JSON: what went in comes back the same from any reader
        "model": json.loads(json.dumps(provenance, default=str)),
        "survey": json.loads(json.dumps(survey._asdict(), default=str)),
        "rows": len(ids),
        "flags": dict(sorted(Counter(f for row in flags for f in row).items())),
    }
    return table
