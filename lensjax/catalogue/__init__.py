"""Galaxies to make mocks of: lens stamps, source stamps and PSFs, as device arrays.

`lensjax.catalogue.plain` reads them from a folder of real cutouts, `ingested` what was
made of a survey's archives; `lensjax.mocks.population` draws a catalogue when there is
none.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import _lazy, photometry
from lensjax.survey import Survey

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "archives",
        "cutouts",
        "extraction",
        "folders",
        "hsc",
        "hsc_files",
        "hsc_hdus",
        "hsc_lists",
        "hudf",
        "ingest",
        "ingested",
        "mosaics",
        "object_table",
        "plain",
        "quality",
        "redshifts",
        "schema",
        "sdss",
        "selection",
        "tfds_builder",
        "user_tables",
        "wcs",
    ),
)


class Lenses(NamedTuple):
    """Galaxies that may act as lenses; L of them, n pixels a side, bands last.

    Cutouts have the survey's size or more: the rest is room to shift them in.
    """

    image: Array  # (L, n, n, band) cutout [counts]
    psf: Array  # (L,) which of the catalogue's PSFs
    z: Array  # (L,) redshift, nan where unknown
    vdisp: Array  # (L,) velocity dispersion [km/s], nan where unknown
    mag: Array  # (L, band) AB magnitude within 2 arcsec
    flux: Array  # (L, band) of all that is in the survey's cutout [counts]
    background: Array  # (L, band) RMS by the corner rule [counts]
    x: Array  # (L,) centre of the light [arcsec]
    y: Array
    ex: Array  # (L,) ellipticity of the light in i, as of a mass of that shape
    ey: Array
    weight: Array  # (L,) 1 / (how much the list over-represents such a galaxy)
    # (L, n, n) maps of what is lens and what neighbour, `mocks.segmentation`, if known
    parts: Array | None = None


class Sources(NamedTuple):
    """Galaxies that may be lensed; S of them, m pixels a side.

    The stamp of band b is image[..., b] * flux[b]; a galaxy seen in one band only has
    c = 1 and looks alike in all.
    """

    image: Array  # (S, m, m, c) [counts per pixel, at the survey's zero point]
    flux: Array  # (S, band)
    z: Array  # (S,) redshift
    mag: Array  # (S, band) AB magnitude


class Catalogue(NamedTuple):
    """What mocks are made from."""

    lenses: Lenses
    sources: Sources
    psfs: Array  # (P, k, k, band) effective PSFs on the survey's pixels


class Listing(NamedTuple):
    """What is the same for a whole catalogue, or no array: never enters jit."""

    lens_id: tuple[str, ...]
    source_id: tuple[str, ...]
    source_pixel_scale: float  # [arcsec]
    origin: str  # the folder, or what was drawn
    fingerprint: str  # SHA-256 of everything in the catalogue
    notes: tuple[str, ...] = ()  # what was left out or assumed, for the user to read


def measure(image: Array, psf: Array, survey: Survey) -> dict[str, Array]:
    """Light fields of `Lenses`, as measured on one cutout (n, n, band).

    n is the survey's image size or, by an even number, more.
    """
    i = survey.detection
    edge = (image.shape[0] - survey.image_size) // 2
    image = image[edge : edge + survey.image_size, edge : edge + survey.image_size]
    galaxy = photometry.moments(image[..., i])
    finer = survey.psf_oversampling
    star = photometry.moments(psf[..., i], start=2.0 * finer)
    star = star._replace(**{k: getattr(star, k) / finer**2 for k in ("xx", "xy", "yy")})
    ex, ey = photometry.ellipticity(photometry.without_psf(galaxy, star))
    within = photometry.aperture_flux(image, 2.0 / survey.pixel_scale)
    return {
        "mag": magnitude(within, survey.zero_point),
        "flux": image.sum((0, 1)),
        "background": photometry.background_rms(image),
        "x": galaxy.x * survey.pixel_scale,
        "y": galaxy.y * survey.pixel_scale,
        "ex": ex,
        "ey": ey,
    }


def magnitude(flux: Array, zero_point: float) -> Array:
    """AB magnitude; a flux of zero or less counts as a thousandth of a count."""
    return zero_point - 2.5 * jnp.log10(jnp.maximum(flux, 1e-3))


def fingerprint(catalogue: Catalogue, ids: Sequence[str]) -> str:
    """SHA-256 over all arrays and ids: the same catalogue, or not."""
    digest = hashlib.sha256("\n".join(ids).encode())
    for leaf in jax.tree.leaves(catalogue):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def split(ids: Sequence[str], folds: int = 5, test_fraction: float = 0.3) -> np.ndarray:
    """Which part of cross-validation each galaxy belongs to, by its id alone.

    Returns (len(ids),) int: -1 for the test set, else the fold that holds the galaxy
    out for validation.  Galaxies are put in the order of a hash of their ids and cut
    into parts, so parts are even however few galaxies there are; the seed of a run, the
    order of the list and the galaxies' places on the sky have no say.
    """
    rank = np.argsort(np.argsort([hashlib.sha256(i.encode()).hexdigest() for i in ids]))
    tested = round(test_fraction * len(ids))
    if len(ids) - tested < folds:
        raise ValueError(
            f"{len(ids)} lens galaxies cannot fill {folds} folds and a test set of "
            f"{test_fraction:.0%}: lower folds or test_fraction"
        )
    return np.where(rank < tested, -1, (rank - tested) % folds)
