"""Fit lens models with errors to your own cutouts; no network is needed.

    lensjax fit cutouts=DIR out=FILE.parquet [survey=NAME_OR_FILE] [weights=NAME]

Writes a table, one row a file, the draws of all posteriors beside it, and for few files
a page of pictures.  What is wrong with a file stands in its flags.  A run that was
ended goes on where it was when the same command is given again.
"""

import functools
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from astropy.table import Table

from lensjax import inference
from lensjax import survey as surveys
from lensjax.catalogue import folders
from lensjax.commands import (
    compiled,
    config,
    fit_inputs,
    fit_network,
    fit_page,
    fit_parts,
    fit_sources,
    places,
    progress,
)
from lensjax.commands.fit_network import Said
from lensjax.commands.fit_parts import Parts, Row
from lensjax.commands.settings.fit import FitConfig
from lensjax.commands.signals import stop_on_signals
from lensjax.inference import candidate, table
from lensjax.inference.candidate import Candidate
from lensjax.inference.lens_model import Fit
from lensjax.inference.problem import Settings
from lensjax.inference.scene import Priors
from lensjax.inference.source_images import Known
from lensjax.storage import processes, tables
from lensjax.survey import Survey

FEW = 50  # cutouts: so many get pictures unasked
LEAST = 8  # cutouts a process: fewer are not worth its start


class Folders(NamedTuple):
    """Where things of single objects go; None: they are not asked for."""

    pictures: Path | None
    sources: Path | None


class Task(NamedTuple):
    """What is fitted, and how."""

    paths: list[str]
    ids: list[str]
    survey: Survey | None  # None: by each file's bands
    settings: Settings
    priors: dict[str, Priors]  # by id, "" for the others
    known: dict[str, Known]  # by id
    seed: int
    weights: str | None  # of a network that is asked first
    sampler: str  # one of `settings.fit.SAMPLERS`


def run(settings: FitConfig) -> int:
    """Read, fit, write.  Returns the exit status.

    0: written, whatever the flags.  3: written, but `strict` is set and some row has no
    model.
    """
    out = Path(settings.out)
    task = task_of(settings)
    places.table("out", out, settings.overwrite, tables.check_writable)
    pictures = settings.pictures == "true"
    pictures |= settings.pictures == "auto" and len(task.paths) <= FEW
    parts = Parts(out, fit_parts.identity(task))
    folders_ = Folders(
        fit_page.folder(out) if pictures else None,
        fit_sources.folder(out) if settings.reconstruct else None,
    )
    with stop_on_signals():
        rows = fitted(task, parts, folders_, workers_of(settings.workers))
    done = finished(task, rows)
    write(done, rows, task, settings, pictures)
    shutil.rmtree(parts.folder, ignore_errors=True)
    progress.say(table.summary(done))
    without = any(table.is_fatal(row.flags) for row in rows)
    return 3 if settings.strict and without else 0


def task_of(settings: FitConfig) -> Task:
    """What a configuration asks for; ConfigError for what is not there."""
    try:
        paths = folders.find(settings.cutouts)
    except ValueError as error:
        raise config.ConfigError(f"cutouts: {error}") from error
    ids = [folders.object_id(path) for path in paths]
    usual = Priors(
        ln_theta_E=(float(np.log(settings.theta_E)), settings.theta_E_scatter)
    )
    return Task(
        paths,
        ids,
        survey_of(settings.survey),
        Settings(
            starts=settings.starts,
            rounds=settings.rounds,
            draws=settings.draws,
            chains=settings.chains,
            warmup=settings.warmup,
            temperature=settings.temperature,
            most_gain=settings.most_gain,
            spread=settings.spread,
            radius=settings.radius,
        ),
        {"": usual} | fit_inputs.started(settings.start, set(ids), usual),
        fit_inputs.known(settings.redshifts, set(ids)),
        settings.seed,
        fit_network.checked(settings.weights),
        settings.sampler,
    )


def survey_of(name: str) -> Survey | None:
    """The preset, or the file, that `survey` names; None for auto."""
    if name == "auto":
        return None
    try:
        if name.endswith(surveys.SUFFIX):
            return surveys.read(name)
        return surveys.named(name)
    except ValueError as error:
        text = str(error)
        raise config.ConfigError(
            text if text.startswith("survey") else f"survey: {text}"
        ) from error


def fitted(task: Task, parts: Parts, where: Folders, workers: int) -> list[Row]:
    """All rows, those of former runs read, the others made and kept as they come."""
    size = fit_parts.SIZE
    blocks = [range(k, min(k + size, len(task.paths)))
              for k in range(0, len(task.paths), size)]  # fmt: skip
    kept = {k: rows for k in range(len(blocks)) if (rows := parts.read(k)) is not None}
    left = [i for k, block in enumerate(blocks) if k not in kept for i in block]
    before = len(task.paths) - len(left)
    if before:
        progress.say(f"{before:,} cutouts were fitted before: going on from there")
    workers = min(workers, max(1, len(left) // LEAST))
    with progress.track("fitting", len(task.paths), "cutouts") as update:
        done = before
        update(done)
        held: list[Row] = []
        one = functools.partial(made, task, where)
        rows = processes.ordered(
            one, left, workers, idle=lambda: update(done), begin=compiled.keep
        )
        for i, row in zip(left, rows, strict=True):
            held.append(row)
            k = i // size
            if i == blocks[k][-1]:
                parts.write(k, held)
                kept[k], held = held, []
            done += 1
            update(done)
    return [row for k in range(len(blocks)) for row in kept[k]]


def workers_of(asked: int) -> int:
    """How many processes fit: those asked for, or one a core; one on a GPU."""
    if jax.default_backend() != "cpu":
        return 1  # they would share its memory
    if hasattr(os, "sched_getaffinity"):
        return asked or len(os.sched_getaffinity(0))
    return asked or os.cpu_count() or 1


def made(task: Task, where: Folders, i: int) -> Row:
    """The row, the picture and the source of the cutout of number i."""
    found, fit = candidate.read(task.paths[i], task.survey), None
    priors = task.priors.get(task.ids[i], task.priors[""])
    found, priors, said = fit_network.read(task.weights, found, priors)
    if found.observation is not None:
        with_these = found.observation, task.settings, priors, task.seed
        fit = inference.fit(*with_these)
        few = not fit.effective >= table.FEW
        if task.sampler == "hmc" or (task.sampler == "auto" and few):
            fit = inference.sample(fit, *with_these)
        fit = jax.tree.map(np.asarray, fit)
    known = task.known.get(task.ids[i], table.UNKNOWN)
    row = row_of(found, fit, task.settings, priors, known, said)
    if fit is None or table.is_fatal(row.flags):
        return row
    sources = None
    if where.sources is not None:
        sources = fit_sources.reconstruct(found, fit, task.settings)
        fit_sources.write(where.sources, task.ids[i], found, sources)
    if where.pictures is not None:
        fit_page.draw(
            where.pictures, task.ids[i], found, fit, row, task.settings, sources
        )
    return row


def row_of(
    found: Candidate,
    fit: Fit | None,
    settings: Settings,
    priors: Priors,
    known: Known = table.UNKNOWN,
    said: Said = fit_network.NOTHING,
) -> Row:
    """What a table has of one cutout."""
    flags, numbers, draws = found.flags | said.flags, {}, None
    origin = {} if found.origin is None else found.origin._asdict()
    origin["noise"] = origin.pop("variance", "")
    if fit is not None:
        numbers = table.numbers(fit, found.survey.bands, known)
        numbers |= said.numbers
        flags |= table.judged(numbers, settings)
        for plane in ("psf", "noise"):
            if "survey" in origin[plane]:
                flags[f"{plane}_assumed"] = f"{origin[plane]}: give a {plane.upper()}"
        if table.is_fatal(flags):
            numbers = {}
        draws = np.column_stack([fit.draws, fit.weight]).astype(np.float32)
        if "no_arcs" in flags:
            table.of_prior(numbers, priors)
            table.draws_of_prior(draws, priors)
    numbers["ra_deg"], numbers["dec_deg"] = found.place
    return Row(numbers, flags, origin, list(found.survey.bands), draws)


def finished(task: Task, rows: list[Row]) -> Table:
    """The table of all rows."""
    bands = list(dict.fromkeys(band for row in rows for band in row.bands))
    count = Counter(task.ids)
    flags = []
    for name, row in zip(task.ids, rows, strict=True):
        twice = f"{count[name]} files are called {name}: see `file`"
        flags.append(row.flags | ({"duplicate_id": twice} if count[name] > 1 else {}))
    about = {
        "settings": task.settings._asdict(),
        "priors": task.priors[""]._asdict(),
        "own_priors": len(task.priors) - 1,
        "survey": "auto" if task.survey is None else task.survey._asdict(),
        "seed": task.seed,
        "sampler": task.sampler,
        "weights": task.weights,
    }
    numbers, origins = [r.numbers for r in rows], [r.origin for r in rows]
    return table.made(task.ids, task.paths, numbers, flags, origins, bands, about)


def write(
    done: Table,
    rows: list[Row],
    task: Task,
    settings: FitConfig,
    pictures: bool,
) -> None:
    """Table, draws and page."""
    out = Path(settings.out)
    if settings.samples:
        fit_parts.write_samples(out.with_suffix(".samples.npz"), task.ids, rows)
    if settings.coolest:
        fit_parts.write_coolest(out.with_name(f"{out.stem}_coolest"), task.ids, rows)
    if pictures:
        fit_page.write(out, done)
    try:
        tables.write(done, out, settings.overwrite)
    except (OSError, ValueError) as error:
        print(f"error: out: {out} was not written: {error}; the fits are kept: give "
              "the same command again", file=sys.stderr)  # fmt: skip
        raise SystemExit(1) from None
