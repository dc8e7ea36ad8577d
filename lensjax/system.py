"""One mock system: a row that says who lenses whom, and the image it stands for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import mock
from lensjax.catalogue import Catalogue, Lenses
from lensjax.lens import Lens, without_shear
from lensjax.sie import SIE
from lensjax.survey import Survey


class System(NamedTuple):
    """A mock system; scalars, or (N,) arrays for a sample."""

    number: Array  # of the proposal, from 0
    lens_index: Array  # row in the catalogue
    source_index: Array
    rotation: Array  # quarter turns of the lens image, counter-clockwise
    sie: SIE  # mass of the lens, as the network shall find it
    beta_x: Array  # source centre [arcsec]
    beta_y: Array
    z_lens: Array
    z_source: Array
    vdisp: Array  # [km/s]
    z_drawn: Array  # bool: the catalogue has no redshift, this one was drawn
    vdisp_drawn: Array
    n_images: Array  # of the source's centre
    arc_peak: Array  # brightest pixel of the arcs in i [background RMS]
    log_flux_ratio: Array  # log10 of lensed source over lens flux in the i cutout


def identifier(number: int) -> str:
    """Id of a system in tables and file names: its proposal's number."""
    return f"{number:010d}"


def light_of(lenses: Lenses, index: Array, rotation: Array):
    """Centre (x, y) [arcsec] and (ex, ey) of a lens's light after turning its image."""
    x, y, ex, ey = (a[index] for a in (lenses.x, lenses.y, lenses.ex, lenses.ey))
    cosine = jnp.array([1.0, 0.0, -1.0, 0.0], x.dtype)[rotation]
    sine = jnp.array([0.0, 1.0, 0.0, -1.0], x.dtype)[rotation]
    # a quarter turn is a half turn of the doubled angle
    sign = jnp.array([1.0, -1.0, 1.0, -1.0], x.dtype)[rotation]
    return cosine * x - sine * y, sine * x + cosine * y, sign * ex, sign * ey


def turned(image: Array, rotation: Array) -> Array:
    """Image (n, n, band) turned by `rotation` quarter turns, from +x towards +y."""
    turns = [lambda a, k=k: jnp.rot90(a, -k) for k in range(4)]
    return jax.lax.switch(rotation, turns, image)


def mass_of(system: System) -> Lens:
    """The lens of a system: its SIE, without shear."""
    return without_shear(system.sie)


def stamps(
    system: System, catalogue: Catalogue, pixel_scale: float
) -> tuple[Array, mock.Source, Array]:
    """Lens image, source and PSF of a system, turned as it says."""
    lenses, sources, psfs = catalogue
    i, j = system.lens_index, system.source_index
    image, psf = lenses.image[i], psfs[lenses.psf[i]]
    source = mock.Source(sources.image[j], sources.flux[j], pixel_scale)
    return turned(image, system.rotation), source, turned(psf, system.rotation)


def render(
    system: System, catalogue: Catalogue, survey: Survey, pixel_scale: float
) -> Array:
    """Image (n, n, band) of one system; `pixel_scale` is that of the source stamps."""
    image, source, psf = stamps(system, catalogue, pixel_scale)
    return mock.render(
        image, mass_of(system), system.beta_x, system.beta_y, source, psf, survey
    )


def brightness(
    system: System, catalogue: Catalogue, survey: Survey, pixel_scale: float
) -> tuple[Array, Array]:
    """Peak of the arcs in i [background RMS], log10 of lensed source over lens flux."""
    b = survey.detection
    _, source, psf = stamps(system, catalogue, pixel_scale)
    c = source.image.shape[-1]
    source = source._replace(
        image=source.image[..., b : b + 1] if c > 1 else source.image,
        flux=source.flux[b : b + 1],
    )
    arcs = mock.arcs(
        mass_of(system),
        system.beta_x,
        system.beta_y,
        source,
        psf[..., b : b + 1],
        survey,
    )[..., 0]
    lens_flux = catalogue.lenses.flux[system.lens_index, b]
    ratio = arcs.sum() / jnp.maximum(lens_flux, 1e-3)
    peak = arcs.max() / catalogue.lenses.background[system.lens_index, b]
    return peak, jnp.log10(jnp.maximum(ratio, 1e-6))
