"""Catalogues from plain folders: tables of galaxies beside FITS files of their stamps.

    lenses.csv    id, file; z and vdisp_kms where they are known; psf (a file's name)
    sources.csv   id, file, z; magnitudes hsc_g, hsc_r, ... to colour one-band stamps
    psfs/         effective PSFs, one file a place, one extension a band

Paths in a table are relative to it.  A missing redshift or dispersion is a normal case.
A table may also be .tsv, .ecsv, .parquet or .fits.
"""

import hashlib
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lensjax import catalogue as _catalogue
from lensjax import psf as _psf
from lensjax.catalogue import (
    Catalogue,
    Lenses,
    Listing,
    Sources,
    _plain_tables,
    cutouts,
    quality,
)
from lensjax.catalogue.extraction import isolate
from lensjax.survey import Survey

SOURCE_BAND = "F814W"  # of the stamps; other bands come from the table's magnitudes
MOST_NOISE = 10.0  # its variance over the stamp's, which it is a part of or all


def read(
    folder: str | Path,
    survey: Survey,
    room: int = 0,
    source_folder: str | Path | None = None,
) -> tuple[Catalogue, Listing]:
    """The catalogue in `folder`, its sources from another one if that is named.

    Lens cutouts keep `room` pixels on each side beyond the survey's.  What is left out,
    a galaxy with a broken file or a source without redshift or magnitudes, is named in
    the listing's notes, as is what is taken for unknown: numbers that no galaxy has.
    Raises ValueError, naming the folder, file or column and the remedy, where no
    catalogue can be made.
    """
    folder = Path(folder)
    check(folder, source_folder)
    notes: list[str] = []
    psf_names, psfs = _read_psfs(folder / "psfs", survey, notes)
    lens_id, lenses = _read_lenses(
        _plain_tables.find(folder, "lenses"), survey, psf_names, psfs, notes, room
    )
    table = _plain_tables.find(Path(source_folder or folder), "sources")
    source_id, sources, scale = _read_sources(table, survey, notes)
    read_ = Catalogue(lenses, sources, psfs)
    return read_, Listing(
        lens_id,
        source_id,
        scale,
        origin=str(folder.resolve()),
        fingerprint=_catalogue.fingerprint(read_, lens_id + source_id),
        notes=tuple(notes),
    )


def check(folder: str | Path, source_folder: str | Path | None = None) -> None:
    """Raise ValueError unless the folders look like a catalogue; reads no stamps."""
    remedy = "give a folder with lenses.csv and sources.csv, or leave data out"
    for path in filter(None, (folder, source_folder)):
        if not Path(path).is_dir():
            raise ValueError(f"data: {path} is no folder: {remedy}")
    if not _plain_tables.find(Path(folder), "lenses"):
        raise ValueError(f"data: {folder} has no lenses.csv: {remedy}")
    path = Path(source_folder or folder)
    if not _plain_tables.find(path, "sources"):
        raise ValueError(
            f"data: {path} has no sources.csv: name another folder for the sources"
        )


def _read_psfs(
    folder: Path, survey: Survey, notes: list[str]
) -> tuple[list[str], jax.Array]:
    if not folder.exists():
        notes.append(
            f"no {folder.name}/: {_psf.SEEINGS} PSFs of {survey.name}'s seeing "
            "are drawn"
        )
        keys = jax.random.split(jax.random.key(0), _psf.SEEINGS)
        drawn = jax.jit(jax.vmap(lambda key: _psf.seeing(key, survey)))(keys)
        return [f"drawn {k}" for k in range(len(drawn))], drawn
    names, kernels = [], []
    wanted = survey.pixel_scale / survey.psf_oversampling
    for path in sorted(folder.glob("*.fits")):
        cutout = cutouts.read(path, bands=survey.bands)
        if abs(cutout.pixel_scale / wanted - 1) > cutouts.SCALE_TOLERANCE:
            raise ValueError(
                f"{path}: pixels of {cutout.pixel_scale:g} arcsec, {survey.name}'s "
                f"PSFs have {wanted:.4g}: resample it"
            )
        try:
            kernel = [_psf.centre(cutout.bands[band]) for band in survey.bands]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        names.append(path.name)
        kernels.append(np.stack(kernel, -1))
    if not kernels:
        raise ValueError(f"{folder} holds no PSF (*.fits)")
    size = min(k.shape[0] for k in kernels)
    kernels = [_cut(k, size) for k in kernels]
    return names, jnp.asarray(np.stack(kernels), jnp.float32)


def _cut(kernel: np.ndarray, size: int) -> np.ndarray:
    edge = (kernel.shape[0] - size) // 2
    kernel = kernel[edge : edge + size, edge : edge + size]
    return kernel / kernel.sum((0, 1))


def _read_lenses(path, survey, psf_names, psfs, notes, room=0):
    larger = survey._replace(image_size=survey.image_size + 2 * room)
    table = _plain_tables.lenses(path, notes)
    named = [""] * len(table.id) if table.psf is None else table.psf

    rows, images, which = [], [], []
    warned: Counter[str] = Counter()
    for row, (name, file) in enumerate(zip(table.id, table.file, strict=True)):
        try:
            prepared = quality.prepare(cutouts.read(file, bands=survey.bands), larger)
            if quality.is_fatal(prepared.flags):
                raise ValueError("; ".join(prepared.flags.values()))
        except ValueError as error:
            notes.append(f"lens {name} is left out: {error}")
            continue
        rows.append(row)
        images.append(prepared.pixels)
        warned.update(prepared.flags.keys())
        which.append(_psf_of(name, named[row], psf_names))
    if not rows:
        raise ValueError(f"{path}: no lens galaxy can be read: {notes[-1]}")
    for flag, n in warned.items():
        notes.append(f"{n} of {len(rows)} lenses: {quality.WARNING[flag]}")
    drawn = sum(not named[row] for row in rows)
    if drawn and len(psf_names) > 1:
        whom = (
            "each lens" if drawn == len(rows) else f"{drawn} lenses whose psf is blank"
        )
        verb = "is" if drawn == len(rows) else "are"
        notes.append(f"{whom} {verb} given one of {len(psf_names)} PSFs by its id")

    image = jnp.asarray(np.stack(images), jnp.float32)
    which = jnp.asarray(which, jnp.int32)
    measured = jax.jit(
        lambda image, which: jax.lax.map(
            lambda a: _catalogue.measure(a[0], psfs[a[1]], survey), (image, which)
        )
    )(image, which)
    lenses = Lenses(
        image=image,
        psf=which,
        z=jnp.asarray(table.z[rows], jnp.float32),
        vdisp=jnp.asarray(table.vdisp[rows], jnp.float32),
        weight=jnp.ones(len(rows)),
        **measured,
    )
    return tuple(str(table.id[row]) for row in rows), lenses


def _psf_of(id_: str, named: str, names: list[str]) -> int:
    """Which PSF a lens has: the one that is named, else one by its id."""
    if named:
        name = Path(named).name
        if name not in names:
            raise ValueError(f"lens {id_} names the PSF {name}, not in psfs/")
        return names.index(name)
    digest = hashlib.sha256(id_.encode()).digest()
    return int.from_bytes(digest[:4], "big") % len(names)


def _read_sources(path, survey, notes):
    table = _plain_tables.sources(path, survey, notes)
    rows, stamps, scales, odd = [], [], [], []
    for row, (name, file) in enumerate(zip(table.id, table.file, strict=True)):
        try:
            if table.lacks[row]:
                raise ValueError(table.lacks[row])
            cutout = cutouts.read(file, bands=(SOURCE_BAND,))
            plane, given = cutout.bands[SOURCE_BAND], table.noise_var[row]
            noise = _noise(plane, given)
            stamp = _alone(plane, noise)
        except ValueError as error:
            notes.append(f"source {name} is left out: {error}")
            continue
        if np.isnan(noise) and not np.isnan(given):
            odd.append(f"{name} has {given:g}")
        rows.append(row)
        stamps.append(stamp)
        scales.append(cutout.pixel_scale)
    if odd:
        notes.append(
            f"{len(odd)} noise variances above {MOST_NOISE:g} times that of all the "
            f"stamp are taken for unknown: {odd[0]}"
        )
    if not rows:
        raise ValueError(f"{path}: no source can be read: {notes[-1]}")
    if np.ptp(scales) > 1e-6 * scales[0]:
        raise ValueError(
            f"{path}: stamps have pixels of {min(scales)} to {max(scales)} arcsec: "
            "resample them to one scale"
        )
    size = max(stamp.shape[0] for stamp in stamps)
    image = np.stack([_framed(stamp, size) for stamp in stamps])
    flux = 10 ** (-0.4 * (table.mag[rows] - survey.zero_point))
    sources = Sources(
        jnp.asarray(image, jnp.float32),
        jnp.asarray(flux, jnp.float32),
        jnp.asarray(table.z[rows], jnp.float32),
        jnp.asarray(survey.zero_point - 2.5 * np.log10(flux * image.sum((1, 2)))),
    )
    return tuple(str(table.id[row]) for row in rows), sources, float(scales[0])


def _noise(plane: np.ndarray, noise_var: float) -> float:
    """RMS of a stamp's pixels of which `noise_var` is told; nan where it cannot be."""
    with np.errstate(invalid="ignore"):  # pixels that are not finite are told later
        most = MOST_NOISE * plane.astype(float).var()
    return float(np.sqrt(noise_var)) if noise_var <= most else np.nan


def _alone(plane: np.ndarray, noise: float) -> np.ndarray:
    """The galaxy at a stamp's middle, (m, m, 1), of unit flux."""
    galaxy = isolate(plane, noise)
    total = galaxy.sum()
    if total <= 0:
        raise ValueError("its flux is not positive")
    return (galaxy / total)[..., None]


def _framed(stamp: np.ndarray, size: int) -> np.ndarray:
    edge = (size - stamp.shape[0]) // 2
    return np.pad(stamp, ((edge, edge), (edge, edge), (0, 0)))
