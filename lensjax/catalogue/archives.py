"""What the archives hold: lens galaxies and their spectra, sources and their redshifts.

Lens galaxies are HSC's cutouts and PSFs, matched to SDSS's spectra; sources are cut out
of the Hubble Ultra Deep Field.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lensjax import catalogue as _catalogue
from lensjax.catalogue import hsc, hudf, redshifts, sdss
from lensjax.catalogue.cutouts import CutoutError
from lensjax.catalogue.hsc import Files
from lensjax.catalogue.sdss import Spectra
from lensjax.storage import chunks
from lensjax.storage.chunks import Arrays, Found, Task
from lensjax.survey import Survey

LENSES, SOURCES = "lens_galaxies", "source_galaxies"
LENS_PART, SOURCE_PART = 256, 64  # objects; 30 MB of lenses, of sources 5 to 100
MATCH = 1.0  # [arcsec] between a cutout's centre and its spectrum
LARGEST = 10.0  # side of a source's stamp, as the paper's [arcsec]


class Half(NamedTuple):
    """One of the two lists of galaxies, as an archive has it."""

    name: str  # LENSES or SOURCES
    task: Task
    files: list[str]  # of each object, for the report
    spectra: Spectra | None  # to be matched to
    excluded: dict[str, int]  # reason -> rows of the list that are no objects
    needed: tuple[str, ...]  # numbers without which a galaxy is of no use
    facts: dict[str, Any]  # what decides the outcome, and what readers need; JSON
    notes: list[str]  # for the user to read


def lenses(source: str, spectra: str | None, survey: Survey, margin: int) -> Half:
    """The lens galaxies of a folder (or a table of files), and SDSS's table of spectra.

    Cutouts keep `margin` pixels around the survey's.  Raises ValueError, with the
    remedy, where one cannot be used at all; no image is read.
    """
    found = sorted(hsc.find(source), key=lambda one: one.name)
    folder = Path(source) if os.path.isdir(source) else Path(source).parent
    base = os.path.join(folder, "")
    files = [_files(one, base) for one in found]
    facts = {"files": _sha256("\n".join(files).encode()), "margin": margin}
    matched, counts = sdss.read(spectra) if spectra else (None, {})
    if spectra:
        facts["sdss"] = _sha256(Path(spectra).read_bytes())
        facts["spectra"] = {"used": len(matched.id), **counts}
    notes = [f"{n:,} spectra {reason}" for reason, n in counts.items()]
    task = Task(
        names=[one.name for one in found],
        items=found,
        read=partial(read_lens, survey=survey, margin=margin),
        measure=partial(measure_lenses, survey=survey),
        size=LENS_PART,
    )
    needed = ("mag", "flux", "background", "x", "y", "ex", "ey")
    return Half(LENSES, task, files, matched, {}, needed, facts, notes)


def sources(folder: str, table: str, survey: Survey) -> Half:
    """The sources of a table of redshifts, in the mosaics of a folder.

    Raises ValueError, with the remedy, where one cannot be used at all.
    """
    mosaics = hudf.open_mosaics(folder)
    known, counts = hudf.read_redshifts(table)
    remarks = (redshifts.CUT_SHORT, redshifts.UNKNOWN_CONFIDENCE)
    excluded = {reason: n for reason, n in counts.items() if reason not in remarks}
    notes = [f"{n:,} {reason}" for reason, n in counts.items() if reason in remarks]
    sizes = {p.name: p.stat().st_size for p in sorted(Path(folder).glob("*.fits*"))}
    order = np.argsort(known.id, kind="stable")
    task = Task(
        names=[str(name) for name in known.id[order]],
        items=[int(k) for k in order],
        read=partial(
            read_source, folder=folder, known=known, zero_point=survey.zero_point
        ),
        measure=measure_sources,
        size=SOURCE_PART,
    )
    facts = {
        "redshifts": _sha256(Path(table).read_bytes()),
        "mosaics": sizes,
        "pixel_scale": mosaics.pixel_scale,
    }
    notes = [*notes, *mosaics.notes]
    empty = [""] * len(order)
    return Half(SOURCES, task, empty, None, excluded, ("z", "mag"), facts, notes)


def identify(
    half: Half, names: Sequence[str], ra: np.ndarray, dec: np.ndarray
) -> tuple[list[str | None], Arrays]:
    """Ids of galaxies, None where there is no spectrum, and what the spectra say.

    A lens galaxy's is SDSS's specObjID, without a table of spectra the position.
    """
    if half.name == SOURCES:
        return list(names), {}
    unknown = np.full(len(names), np.nan)
    if half.spectra is None:
        places = zip(names, ra, dec, strict=True)
        return [position(*p[1:]) or p[0] for p in places], {
            "z": unknown,
            "vdisp": unknown,
        }
    if not len(half.spectra.id):  # a table of headings, or of rows that none can use
        return [None] * len(names), {"z": unknown, "vdisp": unknown}
    index = sdss.match(ra, dec, half.spectra, MATCH)
    ids = [str(half.spectra.id[k]) if k >= 0 else None for k in index]
    numbers = {
        name: np.where(index >= 0, getattr(half.spectra, name)[index], np.nan)
        for name in ("z", "vdisp")
    }
    return ids, numbers


def why_unmatched(spectra: Spectra, ra: np.ndarray, dec: np.ndarray) -> str:
    """What to look at where no galaxy at ra, dec [deg] has a spectrum of its own.

    Positions of the table are tried as other units and orders would have them.
    """
    mistakes = {
        "ra and dec are swapped": spectra._replace(ra=spectra.dec, dec=spectra.ra),
        "ra is in hours: multiply it by 15": spectra._replace(ra=15 * spectra.ra),
        "ra and dec are in radians": spectra._replace(
            ra=np.degrees(spectra.ra), dec=np.degrees(spectra.dec)
        ),
    }
    for words, meant in mistakes.items():
        on_the_sky = abs(meant.dec) <= 90
        meant = Spectra(*(field[on_the_sky] for field in meant))
        if (sdss.match(ra, dec, meant, MATCH) >= 0).any():
            return f"the table's {words}, by the galaxies' places"
    nearest = sdss.separation(ra, dec, spectra)
    if not np.isfinite(nearest):
        return "no galaxy's place is known"
    return f"the nearest is {nearest:,.3g} arcsec off: tables of one part of the sky?"


def position(ra: float, dec: float) -> str:
    """Name of a place by the IAU's rule, Jhhmmss.ss+ddmmss.s, cut and not rounded.

    Empty where it is not known.
    """
    if not math.isfinite(ra + dec):
        return ""
    # a ten-millionth of a digit: 150.1 deg has its digits in spite of its binary form
    h = int(ra % 360 * 24000 + 1e-7)
    d = int(abs(dec) * 36000 + 1e-7)
    return (
        f"J{h // 360000:02}{h // 6000 % 60:02}{h // 100 % 60:02}.{h % 100:02}"
        f"{'-' if dec < 0 else '+'}"
        f"{d // 36000:02}{d // 600 % 60:02}{d // 10 % 60:02}.{d % 10}"
    )


# --- one object, in a process of its own ----------------------------------------------


def read_lens(files: Files, survey: Survey, margin: int) -> Found:
    """A lens galaxy's cutout and PSF, or the flag that forbids it."""
    try:
        galaxy = hsc.read(files, survey, margin)
    except CutoutError as error:
        return _refused(files.name, error)
    stamps = {"image": galaxy.image, "psf": galaxy.psf}
    numbers = {name: getattr(galaxy, name) for name in ("ra", "dec", "background")}
    return Found(stamps, numbers, galaxy.flags)


def read_source(
    index: int, folder: str, known: redshifts.Redshifts, zero_point: float
) -> Found:
    """A source's stamp, or the flag that forbids it."""
    mosaics = _open(folder)
    try:
        galaxy = hudf.extract(mosaics, known, index, zero_point)
    except hudf.Refused as error:
        return _refused(error.name, error)
    image, flags = galaxy.image, dict(galaxy.flags)
    largest = int(LARGEST / mosaics.pixel_scale - 1) // 2 * 2 + 1
    if image.shape[0] > largest:
        image = chunks.framed(galaxy.image, largest)
        lost = 1 - image.sum() / galaxy.image.sum()
        flags["cropped"] = f"{lost:.1%} of its light lies outside {LARGEST:g} arcsec"
    names = ("ra", "dec", "z", "mag", "snr")
    return Found({"image": image}, {n: getattr(galaxy, n) for n in names}, flags)


_open = cache(hudf.open_mosaics)


def _refused(name: str, error: CutoutError | hudf.Refused) -> Found:
    return Found({}, {}, {error.flag: str(error).removeprefix(f"{name}: ")})


# --- many objects, in the process that writes -----------------------------------------


def measure_lenses(found: Sequence[Found], survey: Survey) -> tuple[Arrays, Arrays]:
    """Stamps and numbers of lens galaxies, their light measured."""
    stamps = _stacked([one.stamps for one in found])
    light: dict[str, list] = {}
    size = 64  # of one shape, compiled once; the last is filled up
    for start in range(0, len(found), size):
        batch = [stamps[name][start : start + size] for name in ("image", "psf")]
        count = len(batch[0])
        full = [np.concatenate([a, np.repeat(a[-1:], size - count, 0)]) for a in batch]
        for name, values in _light(survey)(*full).items():
            light.setdefault(name, []).append(np.asarray(values)[:count])
    numbers = {name: np.concatenate(values) for name, values in light.items()}
    # the archive's background is that of the whole cutout, far from the galaxy
    return stamps, numbers | _stacked([one.numbers for one in found])


@cache
def _light(survey: Survey):
    return jax.jit(jax.vmap(lambda a, psf: _catalogue.measure(a, psf, survey)))


def measure_sources(found: Sequence[Found]) -> tuple[Arrays, Arrays]:
    """Stamps and numbers of sources."""
    return tuple(
        _stacked([getattr(one, kind) for one in found])
        for kind in ("stamps", "numbers")
    )


def _stacked(each: Sequence[Arrays]) -> Arrays:
    """One array of many; stamps are set in zeros to the largest one's size."""
    out = {}
    for name in each[0]:
        arrays = [np.asarray(one[name]) for one in each]
        if arrays[0].ndim > 1:
            size = max(a.shape[0] for a in arrays)
            arrays = [chunks.framed(a, size) for a in arrays]
        out[name] = np.stack(arrays)
    return out


def _files(files: Files, base: str) -> str:
    paths = [*files.bands.values(), *files.psf.values()]
    return ";".join(str(path).removeprefix(base) for path in paths)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
