"""Catalogues from plain folders: tables of galaxies beside FITS files of their stamps.

    lenses.csv    id, file; z and vdisp_kms where they are known; psf (a file's name)
    sources.csv   id, file, z; magnitudes hsc_g, hsc_r, ... to colour one-band stamps
    psfs/         effective PSFs, one file a place, one extension a band

Paths in a table are relative to it.  A missing redshift or dispersion is a normal case.
"""

import difflib
import hashlib
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import MaskedColumn, Table

from lensjax import catalogue as _catalogue
from lensjax import photometry
from lensjax import psf as _psf
from lensjax.catalogue import Catalogue, Lenses, Listing, Sources, cutouts, quality
from lensjax.catalogue.extraction import isolate
from lensjax.survey import Survey

SOURCE_BAND = "F814W"  # of the stamps; other bands come from the table's magnitudes
VDISP_LEAST, VDISP_MOST = 50.0, 600.0  # [km/s] outside: no early-type galaxy's


def read(
    folder: str | Path,
    survey: Survey,
    room: int = 0,
    source_folder: str | Path | None = None,
) -> tuple[Catalogue, Listing]:
    """The catalogue in `folder`, its sources from another one if that is named.

    Lens cutouts keep `room` pixels on each side beyond the survey's.  Objects with a
    broken file or an impossible redshift are left out and named in the listing's notes.
    Raises ValueError, naming the folder, file or column and the remedy, where no
    catalogue can be made.
    """
    folder = Path(folder)
    check(folder, source_folder)
    notes: list[str] = []
    psf_names, psfs = _read_psfs(folder / "psfs", survey, notes)
    lens_id, lenses = _read_lenses(
        folder / "lenses.csv", survey, psf_names, psfs, notes, room
    )
    table = Path(source_folder or folder) / "sources.csv"
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
    if not (Path(folder) / "lenses.csv").exists():
        raise ValueError(f"data: {folder} has no lenses.csv: {remedy}")
    path = Path(source_folder or folder)
    if not (path / "sources.csv").exists():
        raise ValueError(
            f"data: {path} has no sources.csv: name a folder that has with sources=DIR"
        )


def _read_table(path: Path, needed: tuple[str, ...]) -> Table:
    table = Table.read(path, format="ascii.csv", converters={"id": str, "file": str})
    for name in needed:
        if name not in table.colnames:
            near = difflib.get_close_matches(name, table.colnames) or table.colnames
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(near)}")
    if not len(table):
        raise ValueError(f"{path} lists no objects")
    table.meta["path"] = str(path)
    ids, counts = np.unique(table["id"], return_counts=True)
    if (counts > 1).any():
        twice = str(ids[counts > 1][0])
        raise ValueError(f"{path} lists the id {twice!r} more than once")
    return table


def _numbers(table: Table, name: str) -> np.ndarray:
    """A column as floats; nan where it is blank or there is no such column."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    column = MaskedColumn(table[name])
    if column.dtype.kind not in "iuf":
        for row, text in enumerate(column):
            if text is not np.ma.masked and str(text).strip():
                raise ValueError(
                    f"{table.meta['path']}: column {name} has {str(text)!r} in row "
                    f"{row + 1}, which is no number"
                )
        return np.full(len(table), np.nan)
    return np.array(column.astype(float).filled(np.nan), float)


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
    table = _read_table(path, ("id", "file"))
    z, vdisp = _numbers(table, "z"), _numbers(table, "vdisp_kms")
    impossible = ~np.isnan(vdisp) & ~((vdisp > VDISP_LEAST) & (vdisp < VDISP_MOST))
    if impossible.any():
        notes.append(
            f"{impossible.sum()} velocity dispersions outside {VDISP_LEAST:.0f} to "
            f"{VDISP_MOST:.0f} km/s are taken for unknown"
        )
    vdisp = np.where(impossible, np.nan, vdisp)
    z = np.where(z > 0, z, np.nan)

    rows, images, which = [], [], []
    warned: Counter[str] = Counter()
    for row, record in enumerate(table):
        try:
            prepared = quality.prepare(
                cutouts.read(path.parent / record["file"], bands=survey.bands), larger
            )
            if quality.is_fatal(prepared.flags):
                raise ValueError("; ".join(prepared.flags.values()))
        except ValueError as error:
            notes.append(f"lens {record['id']} is left out: {error}")
            continue
        rows.append(row)
        images.append(prepared.pixels)
        warned.update(prepared.flags)
        which.append(_psf_of(record, table.colnames, psf_names))
    if not rows:
        raise ValueError(f"{path}: no lens galaxy can be read: {notes[-1]}")
    for flag, n in warned.items():
        notes.append(f"{n} of {len(rows)} lenses: {quality.WARNING[flag]}")
    if "psf" not in table.colnames and len(psf_names) > 1:
        notes.append(f"each lens is given one of {len(psf_names)} PSFs by its id")

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
        z=jnp.asarray(z[rows], jnp.float32),
        vdisp=jnp.asarray(vdisp[rows], jnp.float32),
        weight=jnp.ones(len(rows)),
        **measured,
    )
    return tuple(str(table["id"][row]) for row in rows), lenses


def _psf_of(record, columns, names: list[str]) -> int:
    if "psf" in columns:
        name = Path(str(record["psf"])).name
        if name not in names:
            raise ValueError(f"lens {record['id']} names the PSF {name}, not in psfs/")
        return names.index(name)
    digest = hashlib.sha256(str(record["id"]).encode()).digest()
    return int.from_bytes(digest[:4], "big") % len(names)


def _read_sources(path, survey, notes):
    table = _read_table(path, ("id", "file", "z"))
    z = _numbers(table, "z")
    mags = _magnitudes(table, survey, notes)
    noise = np.sqrt(_numbers(table, "noise_var"))

    rows, stamps, scales = [], [], []
    for row, record in enumerate(table):
        try:
            if not z[row] > 0:
                raise ValueError(f"its redshift is {record['z']}")
            cutout = cutouts.read(path.parent / record["file"], bands=(SOURCE_BAND,))
            stamp, flux = _coloured(cutout, mags[row], noise[row], survey)
        except ValueError as error:
            notes.append(f"source {record['id']} is left out: {error}")
            continue
        rows.append((row, flux))
        stamps.append(stamp)
        scales.append(cutout.pixel_scale)
    if not rows:
        raise ValueError(f"{path}: no source can be read: {notes[-1]}")
    if np.ptp(scales) > 1e-6 * scales[0]:
        raise ValueError(
            f"{path}: stamps have pixels of {min(scales)} to {max(scales)} arcsec: "
            "resample them to one scale"
        )
    size = max(stamp.shape[0] for stamp in stamps)
    image = np.stack([_framed(stamp, size) for stamp in stamps])
    kept = [row for row, _ in rows]
    flux = np.stack([flux for _, flux in rows])
    sources = Sources(
        jnp.asarray(image, jnp.float32),
        jnp.asarray(flux, jnp.float32),
        jnp.asarray(z[kept], jnp.float32),
        jnp.asarray(survey.zero_point - 2.5 * np.log10(flux * image.sum((1, 2)))),
    )
    return tuple(str(table["id"][row]) for row in kept), sources, float(scales[0])


def _magnitudes(table: Table, survey: Survey, notes: list[str]) -> np.ndarray:
    """AB magnitudes (N, band): the survey's own columns, or HSC's in their place."""
    own = [f"{survey.name}_{band}".lower() for band in survey.bands]
    if set(own) <= set(table.colnames):
        return np.stack([_numbers(table, name) for name in own], -1)
    hsc = [f"hsc_{band}" for band in "griz"]
    for name in own if survey.name == "HSC" else hsc:
        if name not in table.colnames:
            near = difflib.get_close_matches(name, table.colnames) or table.colnames
            raise ValueError(
                f"{table.meta['path']} has no column {name!r}; it has {', '.join(near)}"
            )
    notes.append(f"sources have HSC's magnitudes in {survey.name}'s bands")
    mags = np.stack([_numbers(table, name) for name in hsc], -1)
    return np.asarray(photometry.in_bands(mags, survey))


def _coloured(cutout, mag, noise, survey) -> tuple[np.ndarray, np.ndarray]:
    """Stamp (m, m, 1) of unit flux in a square about its middle, and counts a band."""
    if not np.isfinite(mag).all():
        raise ValueError(f"it has no {survey.name} magnitudes to colour it with")
    plane = cutout.bands[SOURCE_BAND]
    galaxy = isolate(plane, noise)
    total = galaxy.sum()
    if total <= 0:
        raise ValueError("its flux is not positive")
    return (galaxy / total)[..., None], 10 ** (-0.4 * (mag - survey.zero_point))


def _framed(stamp: np.ndarray, size: int) -> np.ndarray:
    edge = (size - stamp.shape[0]) // 2
    return np.pad(stamp, ((edge, edge), (edge, edge), (0, 0)))
