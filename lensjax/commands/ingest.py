"""Make a catalogue of archives.

    lensjax ingest lenses=DIR sdss=TABLE mosaics=DIR redshifts=... out=...
    lensjax ingest positions=TABLE upload_list=DIR

The second writes the lists that order lens galaxies from the archive.  Stopped or
killed, the same command goes on where it was, and comes to the same bytes.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lensjax import survey
from lensjax.catalogue import archives, hsc, ingest, selection
from lensjax.commands import config, places, progress
from lensjax.commands.signals import Signals, Stopped, stop_on_signals
from lensjax.storage import checkpoint, chunks

SURVEY = survey.HSC
NOUNS = {archives.LENSES: "lens galaxies", archives.SOURCES: "sources"}


def run(settings: config.IngestConfig) -> int:
    """Read the archives and store what they hold; returns the exit status."""
    if settings.upload_list is not None:
        return order(settings)
    out = Path(settings.out)
    halves = look(settings)
    asked = ingest.plan(halves, SURVEY)
    with named("out"):
        now = ingest.state(out, asked, settings.overwrite)
    if now == "finished":
        progress.say(f"{out} is finished already: overwrite=true makes it anew")
        ingest.clean(out)
        return report(out, ingest.summary(out), settings.strict)
    places.folder("out", out, ingest.WORK)
    try:
        with stop_on_signals() as signals, checkpoint.lock(out / ingest.WORK):
            signals.unsaved = True  # end between two objects, not at once
            ingest.begin(out, asked, now)
            summary = store(halves, asked, settings, signals)
            ingest.clean(out)
    except Stopped as stopped:
        progress.say("stopped; the same command goes on from there")
        return stopped.status
    except checkpoint.LockError as error:
        raise config.ConfigError(f"out: {error}".replace("run_dir", "out")) from error
    except (OSError, RuntimeError) as error:  # array_record has the latter
        text = " ".join(str(error).split())
        print(
            f"error: {text}; what was finished in {out} stays: the same command goes "
            "on from there",
            file=sys.stderr,
        )
        return 1
    return report(out, summary, settings.strict)


def report(out: Path, summary: dict[str, Any], strict: bool) -> int:
    """Say what was found and kept; returns the exit status."""
    for line in ingest.describe(summary):
        progress.say(line)
    progress.say(f"what was left out, and why: {out / ingest.REJECTED}")
    return 3 if strict and ingest.left_out(summary) else 0


def look(settings: config.IngestConfig) -> list[archives.Half]:
    """What the archives hold; ConfigError where one cannot be used at all."""
    halves = []
    if settings.lenses is not None:
        with named("lenses, sdss"):
            halves.append(
                archives.lenses(settings.lenses, settings.sdss, SURVEY, settings.margin)
            )
    if settings.mosaics is not None:
        with named("mosaics, redshifts"):
            halves.append(
                archives.sources(settings.mosaics, settings.redshifts, SURVEY)
            )
    for half in halves:
        progress.say(f"{len(half.task.names):,} {NOUNS[half.name]} to read")
        for note in half.notes:
            progress.say(f"  note: {note}")
    return halves


def store(
    halves: list[archives.Half],
    asked: dict[str, Any],
    settings: config.IngestConfig,
    signals: Signals,
) -> dict[str, Any]:
    """Read all galaxies, choose among them and write what is kept."""
    out = Path(settings.out)
    workers = settings.workers or os.cpu_count() or 1
    chosen = {}
    for half in halves:
        noun, total = NOUNS[half.name], len(half.task.names)
        with followed(f"reading {noun}", total, "galaxies", signals) as update:
            made = chunks.make(
                out / ingest.WORK / half.name, half.task, workers, update
            )
        chosen[half.name] = selection.choose(half, made)
    for half in halves:
        picked = chosen[half.name]
        what = f"writing {NOUNS[half.name]}"
        with followed(what, len(picked.ids), "galaxies", signals) as update:
            ingest.pack(half, picked, out, SURVEY, update)
    with followed("checking", len(ingest.stored(out)), "files", signals) as update:
        return ingest.finish(out, asked, chosen, update)


@contextmanager
def followed(
    what: str, total: int, unit: str, signals: Signals
) -> Iterator[Callable[[int], None]]:
    """Show progress, and end the work when a signal has come."""
    with progress.track(what, total, unit) as update:

        def stopping(done: int) -> None:
            if signals.received:
                raise Stopped(signals.received)
            update(done)

        yield stopping


@contextmanager
def named(key: str) -> Iterator[None]:
    """Turn a ValueError into one of the configuration's."""
    try:
        yield
    except ingest.Occupied as error:
        raise config.ConfigError(
            f"{key}: {error}: give another {key}, or overwrite=true"
        ) from error
    except (ValueError, OSError) as error:
        raise config.ConfigError(f"{key}: {error}") from error


def order(settings: config.IngestConfig) -> int:
    """Write the archive's upload lists alone."""
    with named("positions, upload_list"), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        written = hsc.upload_list(
            settings.upload_list, settings.positions, rerun=settings.rerun
        )
    for warning in said:
        progress.say(f"note: {warning.message}")
    for path in written:
        progress.say(str(path))
    return 0
