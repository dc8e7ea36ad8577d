"""One mock system: a row that says who lenses whom, and the image it stands for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import mock
from lensjax.catalogue import Catalogue, Lenses, Sources
from lensjax.lens import Lens
from lensjax.mocks import segmentation
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import Survey

NO_ARCS = -6.0  # log_flux_ratio where there are none


class System(NamedTuple):
    """A mock system; scalars, or (N,) arrays for a sample."""

    number: Array  # of the proposal, from 0
    lens_index: Array  # row in the catalogue
    source_index: Array
    psf_index: Array
    rotation: Array  # quarter turns of the lens image, counter-clockwise
    shift_x: Array  # of the lens image in the cutout, after turning it [pixel]
    shift_y: Array
    sie: SIE  # mass of the lens, as the network shall find it
    shear: Shear  # external
    light_x: Array  # light of the lens in the cutout: centre [arcsec]
    light_y: Array
    light_ex: Array  # ellipticity, as of a mass of that shape
    light_ey: Array
    beta_x: Array  # source centre [arcsec]
    beta_y: Array
    z_lens: Array
    z_source: Array
    vdisp: Array  # [km/s]
    z_drawn: Array  # bool: the catalogue has no redshift, this one was drawn
    vdisp_drawn: Array
    n_images: Array  # of the source's centre; 0: a galaxy without arcs
    arc_peak: Array  # brightest pixel of the arcs in i [background RMS]
    log_flux_ratio: Array  # log10 of lensed source over lens flux in the i cutout


class Rendering(NamedTuple):
    """How systems become images; static under jit."""

    survey: Survey
    source_pixel_scale: float  # of the catalogue's source stamps [arcsec]
    arc_noise: bool = False  # the arcs' own photon noise, which the paper neglects
    lens_only: bool = False  # no arcs at all (paper, sect. 5.2)


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


def shifted(image: Array, shift_x: Array, shift_y: Array, size: int) -> Array:
    """Window (size, size, band) of a larger image whose content moves by whole pixels.

    Its pixels are the image's own.  As large as the image, it cannot move.
    """
    edge = (image.shape[0] - size) // 2
    if not edge:
        return image
    start = (edge - shift_y, edge - shift_x, jnp.zeros_like(shift_x))
    return jax.lax.dynamic_slice(image, start, (size, size, image.shape[-1]))


def mass_of(system: System) -> Lens:
    """The lens of a system: its SIE in its external shear."""
    return Lens(system.sie, system.shear)


def stamps(
    system: System, catalogue: Catalogue, rendering: Rendering
) -> tuple[Array, mock.Source, Array]:
    """Lens image, source and PSF of a system, turned and shifted as it says."""
    lenses, sources, psfs = catalogue
    size = rendering.survey.image_size
    image = turned(lenses.image[system.lens_index], system.rotation)
    image = shifted(image, system.shift_x, system.shift_y, size)
    psf = turned(psfs[system.psf_index], system.rotation)
    return image, source_of(system, sources, rendering), psf


def source_of(system: System, sources: Sources, rendering: Rendering) -> mock.Source:
    """The galaxy that a system lenses."""
    j = system.source_index
    return mock.Source(sources.image[j], sources.flux[j], rendering.source_pixel_scale)


def layers(
    system: System, catalogue: Catalogue, rendering: Rendering
) -> tuple[Array, Array]:
    """Lens image and arcs (n, n, band) of one system, whose sum is the mock."""
    image, source, psf = stamps(system, catalogue, rendering)
    survey, lens = rendering.survey, mass_of(system)
    if rendering.lens_only:
        return image, jnp.zeros_like(image)
    arcs = mock.arcs(
        lens,
        system.beta_x,
        system.beta_y,
        source,
        psf,
        survey,
        margin=mock.MARGIN,
    )
    if rendering.arc_noise:
        # a system's noise is its own, whenever and wherever it is rendered: no index
        # into a catalogue, which may be part of another, has a say in it
        key = jax.random.fold_in(jax.random.key(0), system.number)
        place = jax.lax.bitcast_convert_type(
            system.beta_x.astype(jnp.float32), jnp.uint32
        )
        arcs += mock.photon_noise(jax.random.fold_in(key, place), arcs, survey)
    # a galaxy without arcs stands in a sample as a lens with no images
    return image, jnp.where(system.n_images > 0, arcs, 0)


def shown(
    system: System, arcs: Array, catalogue: Catalogue, rendering: Rendering
) -> Array:
    """Map (n, n) of what the pixels of a system show, its arcs being (n, n, band)."""
    survey = rendering.survey
    maps = turned(catalogue.lenses.parts[system.lens_index], system.rotation)
    size = survey.image_size
    maps = shifted(maps[..., None], system.shift_x, system.shift_y, size)[..., 0]
    return maps | segmentation.where(arcs, segmentation.ARC, survey)


def render(system: System, catalogue: Catalogue, rendering: Rendering) -> Array:
    """Image (n, n, band) of one system."""
    image, arcs = layers(system, catalogue, rendering)
    return image + arcs


def brightness(
    system: System,
    lenses: Lenses,
    sources: Sources,
    psf: Array,
    rendering: Rendering,
    supersampling: int = mock.SUPERSAMPLING,
) -> tuple[Array, Array]:
    """Peak of the arcs in i [background RMS], log10 of lensed source over lens flux.

    `psf` (k, k, band) is the lens's as the catalogue has it.  Only i is rendered, and
    no stamp of a lens is read.
    """
    survey, i = rendering.survey, system.lens_index
    b = survey.detection
    source = source_of(system, sources, rendering)
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
        turned(psf[..., b : b + 1], system.rotation),
        survey,
        supersampling,
        mock.MARGIN,
    )[..., 0]
    ratio = arcs.sum() / jnp.maximum(lenses.flux[i, b], 1e-3)
    log_ratio = jnp.log10(jnp.maximum(ratio, 10**NO_ARCS))
    return arcs.max() / lenses.background[i, b], log_ratio
