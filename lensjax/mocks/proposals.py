"""Proposals of mock systems: who lenses whom, with which mass, and from where.

A proposal is a function of its key alone, in two steps, each of which may drop it: a
`pair` of galaxies is kept in proportion to the lens's strength, then the source is
`place`d and kept in proportion to the region it was placed in.  What remains has lenses
in proportion to their cross-sections and sources anywhere behind them, as if one large
region behind all lenses had been searched, but few are drawn in vain.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import cosmology, images, photometry, sie
from lensjax import shear as _shear
from lensjax.catalogue import Catalogue, Lenses
from lensjax.cosmology import FlatLambdaCDM
from lensjax.lens import Lens
from lensjax.mocks import population, system
from lensjax.mocks.population import Ellipticals
from lensjax.mocks.system import System
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import Survey

CENTRE_SCATTER = 0.05  # of mass against light, as the paper: [arcsec]
AXIS_RATIO_SCATTER = 0.05
ANGLE_SCATTER = 0.17  # [rad]
LEAST_AXIS_RATIO = 0.2
LARGEST_SHEAR = 4.0  # in units of its scatter; 1 in 3,000 draws is larger, and cut
CORNERS = 64  # of the polygons that stand for caustics and cuts
SPARE = 1.01  # polygons are made larger by this, their sides being chords


class Criteria(NamedTuple):
    """Which proposals are made and which accepted; static under jit."""

    theta_E_min: float = 0.5  # [arcsec]
    theta_E_max: float = 5.0
    multiplicity: str = "both"  # both, doubles or quads
    arc_peak: float = 1.0  # least peak of the arcs in i [background RMS]
    rotate: bool = False  # turn lens images by a random multiple of 90 degrees
    cap: int = 0  # most systems in each 0.1 arcsec bin of theta_E; 0: no cap
    once: bool = False  # no lens galaxy twice in one rotation
    shear: float = 0.0  # scatter of each component of an external shear
    dither: int = 0  # lens images are shifted by up to so many pixels along x and y
    vary_psf: bool = False  # any PSF of the catalogue for the arcs, not the lens's own
    # theta_E flat in its logarithm, whatever the light of the lens; then velocity
    # dispersions follow from it, and every lens is as likely as the next
    free_theta_E: bool = False
    arc_free: float = 0.0  # share of the sample whose arcs are left out


class Pool(NamedTuple):
    """What proposals are drawn from: a catalogue's numbers, no stamps."""

    lenses: Lenses  # its image left out
    source_z: Array  # (S,)
    n_psfs: Array
    field: Ellipticals | None  # among which unknown redshifts and dispersions are drawn
    pixel_scale: Array  # of the survey [arcsec]
    strongest: Array  # largest weight x theta_E^2 that a pair can have [arcsec^2]


def pool(
    key: Array,
    catalogue: Catalogue,
    survey: Survey,
    criteria: Criteria,
    cosmo: FlatLambdaCDM,
) -> Pool:
    """The catalogue as `pair` wants it; ValueError where no lens is strong enough."""
    lenses = catalogue.lenses._replace(image=None, parts=None)
    field = None
    if not np.isfinite([lenses.z, lenses.vdisp]).all():
        ellipticals = jax.jit(population.ellipticals, static_argnums=1)
        field = ellipticals(jax.random.fold_in(key, 2**31), 2048, cosmo)
        field = field._replace(mag=photometry.in_bands(field.mag, survey))
    # each lens's Einstein radius with the source infinitely far behind it
    most = population.VDISP_RANGE[1]
    vdisp = jnp.where(jnp.isfinite(lenses.vdisp), lenses.vdisp, most)
    widest = 4 * np.pi / cosmology.ARCSEC * (vdisp / cosmology.SPEED_OF_LIGHT) ** 2
    if widest.max() < criteria.theta_E_min:
        raise ValueError(
            f"no lens of the catalogue can have an Einstein radius above "
            f"{widest.max():.2f} arcsec: theta_E_min is {criteria.theta_E_min}"
        )
    strongest = lenses.weight * jnp.minimum(widest, criteria.theta_E_max) ** 2
    n_psfs = jnp.asarray(len(catalogue.psfs), jnp.int32)
    scale = jnp.asarray(survey.pixel_scale, lenses.x.dtype)
    return Pool(lenses, catalogue.sources.z, n_psfs, field, scale, strongest.max())


def pair(
    key: Array,
    number: Array,
    pool: Pool,
    criteria: Criteria,
    cosmo: FlatLambdaCDM,
    among: tuple[Array, Array] | None = None,
) -> tuple[System, Array]:
    """A lens and a source, each galaxy as likely as the next; and whether to go on.

    Kept in proportion to the lens's weight and squared Einstein radius.  `key` is this
    proposal's own, `number` only its name.  `among` are the lenses to choose from and
    how many of them count, (T,) and (); None: all.
    """
    keys = jax.random.split(jax.random.fold_in(key, 0), 12)
    lenses = pool.lenses
    if among is None:
        i = jax.random.randint(keys[0], (), 0, lenses.z.shape[0])
    else:
        i = among[0][jax.random.randint(keys[0], (), 0, among[1])]
    j = jax.random.randint(keys[1], (), 0, pool.source_z.shape[0])
    turns = 4 if criteria.rotate else 1
    rotation = jax.random.randint(keys[2], (), 0, turns)

    z_lens, vdisp = lenses.z[i], lenses.vdisp[i]
    z_drawn, vdisp_drawn = ~jnp.isfinite(z_lens), ~jnp.isfinite(vdisp)
    if pool.field is not None:
        z_lens, vdisp = population.redshift_and_dispersion(
            keys[3], lenses.mag[i], z_lens, vdisp, pool.field
        )
    z_source = pool.source_z[j]
    theta_E = cosmology.einstein_radius(cosmo, vdisp, z_lens, z_source)
    strength = lenses.weight[i] * theta_E**2 / pool.strongest
    if criteria.free_theta_E:
        edges = jnp.log(jnp.array([criteria.theta_E_min, criteria.theta_E_max]))
        u = jax.random.uniform(keys[11], minval=edges[0], maxval=edges[1])
        of_light, theta_E = theta_E, jnp.exp(u)
        # a source that is not behind the lens has no theta_E at all
        strength = jnp.where(of_light > 0, jnp.ones_like(theta_E), 0)
        vdisp = vdisp * jnp.sqrt(theta_E / jnp.where(of_light > 0, of_light, 1))
        vdisp_drawn = jnp.ones_like(vdisp_drawn)

    shift_x = shift_y = jnp.zeros_like(i)
    if criteria.dither:
        d = criteria.dither
        shift_x, shift_y = jax.random.randint(keys[7], (2,), -d, d + 1)
    # light traces mass, but not perfectly (paper, sect. 2.1)
    light_x, light_y, light_ex, light_ey = system.light_of(lenses, i, rotation)
    light_x = light_x + shift_x.astype(light_x.dtype) * pool.pixel_scale
    light_y = light_y + shift_y.astype(light_y.dtype) * pool.pixel_scale
    q, phi = sie.axis_ratio(SIE(theta_E, light_ex, light_ey, light_x, light_y))
    first, second = q + AXIS_RATIO_SCATTER * jax.random.normal(keys[4], (2,))
    q = jnp.where(first > 1, jnp.minimum(second, 1), first)
    q = jnp.maximum(q, LEAST_AXIS_RATIO)
    phi = phi + ANGLE_SCATTER * jax.random.normal(keys[5])
    dx, dy = CENTRE_SCATTER * jax.random.normal(keys[6], (2,))
    mass = sie.from_axis_ratio(theta_E, q, phi, light_x + dx, light_y + dy)
    nothing = jnp.zeros_like(theta_E)
    shear = Shear(nothing, nothing)
    if criteria.shear:
        g = criteria.shear * jax.random.normal(keys[8], (2,))
        most = LARGEST_SHEAR * criteria.shear
        shear = Shear(*(g * jnp.minimum(1, most / jnp.hypot(*g))))
    psf = lenses.psf[i]
    if criteria.vary_psf:
        psf = jax.random.randint(keys[9], (), 0, pool.n_psfs, psf.dtype)

    plausible = jax.random.uniform(keys[10]) < strength
    plausible &= (theta_E >= criteria.theta_E_min) & (theta_E <= criteria.theta_E_max)
    return System(
        number=number,
        lens_index=i,
        source_index=j,
        psf_index=psf,
        rotation=rotation,
        shift_x=shift_x,
        shift_y=shift_y,
        sie=mass,
        shear=shear,
        light_x=light_x,
        light_y=light_y,
        light_ex=light_ex,
        light_ey=light_ey,
        beta_x=nothing,
        beta_y=nothing,
        z_lens=z_lens,
        z_source=z_source,
        vdisp=vdisp,
        z_drawn=z_drawn,
        vdisp_drawn=vdisp_drawn,
        n_images=jnp.zeros_like(i),
        arc_peak=nothing,
        log_flux_ratio=nothing,
    ), plausible


def place(key: Array, row: System, criteria: Criteria) -> tuple[System, Array]:
    """The source of a pair placed behind its lens, and whether to go on.

    For quads anywhere inside the caustic, else anywhere in a circle about caustic and
    cut; kept in proportion to that region's area.  `key` is the proposal's own.
    """
    u = jax.random.uniform(jax.random.fold_in(key, 1), (4,))
    lens = system.mass_of(row)
    centre_x, centre_y, dx, dy = _caustic_about_centre(lens)
    if criteria.multiplicity == "quads":
        area, x, y = _anywhere_inside(dx, dy, u)
    else:
        cut_x, cut_y = images.cut(lens, CORNERS + 1)
        radius2 = jnp.maximum(
            (dx**2 + dy**2).max(),
            ((cut_x - centre_x) ** 2 + (cut_y - centre_y) ** 2).max(),
        )
        radius, angle = SPARE * jnp.sqrt(radius2 * u[0]), 2 * jnp.pi * u[1]
        area = jnp.pi * SPARE**2 * radius2
        x, y = radius * jnp.cos(angle), radius * jnp.sin(angle)
    largest = largest_region(criteria.multiplicity, LARGEST_SHEAR * criteria.shear)
    kept = u[3] * largest * row.sie.theta_E**2 < area
    return row._replace(beta_x=centre_x + x, beta_y=centre_y + y), kept


def _caustic_about_centre(lens: Lens) -> tuple[Array, Array, Array, Array]:
    """Where the lens's centre is mapped to, and the caustic about that point."""
    shear_x, shear_y = _shear.deflect(lens.shear, lens.sie.x, lens.sie.y)
    x, y = lens.sie.x - shear_x, lens.sie.y - shear_y
    caustic_x, caustic_y = images.caustic(lens, CORNERS + 1)
    return x, y, caustic_x - x, caustic_y - y


def _anywhere_inside(x: Array, y: Array, u: Array) -> tuple[Array, Array, Array]:
    """Area of a closed curve (n,) seen whole from the origin, and a point inside it."""
    x, y = SPARE * x, SPARE * y
    slices = jnp.abs(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2  # triangles at the origin
    edges = jnp.cumsum(slices)
    k = jnp.searchsorted(edges, u[0] * edges[-1])
    k = jnp.minimum(k, len(slices) - 1)  # a round lens has no area at all
    out, along = jnp.sqrt(u[1]), u[2]
    x, y = (out * ((1 - along) * a[k] + along * a[k + 1]) for a in (x, y))
    return edges[-1], x, y


@functools.cache
def largest_region(multiplicity: str, shear: float) -> float:
    """Largest region that `place` can draw from, over theta_E^2."""

    @jax.jit
    @jax.vmap
    def reach(q, g):
        zero = jnp.zeros_like(q)
        lens = Lens(sie.from_axis_ratio(zero + 1, q, zero), Shear(g, zero))
        _, _, dx, dy = _caustic_about_centre(lens)
        if multiplicity == "quads":
            return _anywhere_inside(dx, dy, jnp.zeros(3))[0]
        cut_x, cut_y = images.cut(lens, CORNERS + 1)
        radius2 = jnp.maximum((dx**2 + dy**2).max(), (cut_x**2 + cut_y**2).max())
        return jnp.pi * SPARE**2 * radius2

    q = np.linspace(LEAST_AXIS_RATIO, 1, 81, dtype=np.float32)
    g = np.linspace(-shear, shear, 21, dtype=np.float32)
    with jax.ensure_compile_time_eval():  # also where a caller is being traced
        return 1.01 * float(np.max(reach(*(a.ravel() for a in np.meshgrid(q, g)))))


def without_arcs(key: Array, row: System, criteria: Criteria) -> System:
    """The accepted system, or by chance the galaxy alone: a lens with no images.

    `key` is the proposal's own.  What the mass would be is kept: who sees no arcs is
    asked for it all the same, and can only say what is likely of any lens.
    """
    if not criteria.arc_free:
        return row
    bare = jax.random.uniform(jax.random.fold_in(key, 3)) < criteria.arc_free
    nothing = {
        "n_images": jnp.zeros_like(row.n_images),
        "arc_peak": jnp.zeros_like(row.arc_peak),
        "log_flux_ratio": jnp.full_like(row.log_flux_ratio, system.NO_ARCS),
    }
    return row._replace(
        **{k: jnp.where(bare, v, getattr(row, k)) for k, v in nothing.items()}
    )


def count_images(row: System) -> Array:
    """Number of images of the source's centre."""
    found = images.solve(system.mass_of(row), row.beta_x, row.beta_y)
    return found.valid.sum().astype(row.n_images.dtype)


def wanted(n_images: Array, multiplicity: str) -> Array:
    """Whether these numbers of images are of a multiplicity."""
    kinds = {"both": n_images >= 2, "doubles": n_images == 2, "quads": n_images == 4}
    return kinds[multiplicity]
