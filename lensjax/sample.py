"""Samples of mock systems: proposals drawn, solved and accepted; rows, no images.

A row says who lenses whom, from where and with which mass; `render` makes its image
when it is wanted.  Proposals are numbered, and each is a function of the sample's key
and its number alone: the same key gives the same table, whatever the batches or
devices.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table
from jax import Array

from lensjax import cosmology, images, population, sie, system
from lensjax.catalogue import Catalogue, Lenses, Listing
from lensjax.cosmology import FlatLambdaCDM
from lensjax.population import Ellipticals
from lensjax.sie import SIE
from lensjax.survey import Survey
from lensjax.system import System

CENTRE_SCATTER = 0.05  # of mass against light, as the paper: [arcsec]
AXIS_RATIO_SCATTER = 0.05
ANGLE_SCATTER = 0.17  # [rad]
LEAST_AXIS_RATIO = 0.2
REACH = 1.21  # caustic and cut of any SIE with q >= 0.2 lie within 1.21 theta_E
CAP_BIN = 0.1  # width of the bins of theta_E that `Criteria.cap` speaks of [arcsec]


class Criteria(NamedTuple):
    """Which proposals are accepted; static under jit."""

    theta_E_min: float = 0.5  # [arcsec]
    theta_E_max: float = 5.0
    multiplicity: str = "both"  # both, doubles or quads
    arc_peak: float = 1.0  # least peak of the arcs in i [background RMS]
    rotate: bool = False  # turn lens images by a random multiple of 90 degrees
    cap: int = 0  # most systems in each 0.1 arcsec bin of theta_E; 0: no cap


DEFAULT_CRITERIA = Criteria()


class Sample(NamedTuple):
    """Accepted systems and how many proposals they took."""

    systems: System
    counts: dict[str, int]


def propose(
    key: Array,
    number: Array,
    catalogue: Catalogue,
    field: Ellipticals | None,
    criteria: Criteria,
    cosmo: FlatLambdaCDM,
    strongest: Array,
) -> tuple[System, Array]:
    """Proposal `number` of a sample, and whether it is worth solving.

    A lens and a source are picked from the catalogue, each galaxy as likely as the
    next, and the source is placed anywhere behind the lens.  `strongest` is the largest
    weight times squared Einstein radius in the catalogue: positions are drawn close
    behind each lens and the draw is kept in proportion to that area, which amounts to
    one region of the same size behind all.  `field` holds the galaxies among which
    unknown redshifts and dispersions are drawn; None where the catalogue knows them
    all.
    """
    keys = jax.random.split(jax.random.fold_in(key, number), 10)
    lenses, sources, _ = catalogue
    i = jax.random.randint(keys[0], (), 0, lenses.z.shape[0])
    j = jax.random.randint(keys[1], (), 0, sources.z.shape[0])
    turns = 4 if criteria.rotate else 1
    rotation = jax.random.randint(keys[2], (), 0, turns)

    z_lens, vdisp = lenses.z[i], lenses.vdisp[i]
    z_drawn, vdisp_drawn = ~jnp.isfinite(z_lens), ~jnp.isfinite(vdisp)
    if field is not None:
        z_lens, vdisp = population.redshift_and_dispersion(
            keys[3], lenses.mag[i], z_lens, vdisp, field
        )
    z_source = sources.z[j]
    theta_E = cosmology.einstein_radius(cosmo, vdisp, z_lens, z_source)

    # light traces mass, but not perfectly (paper, sect. 2.1)
    light_x, light_y, light_ex, light_ey = system.light_of(lenses, i, rotation)
    q, phi = sie.axis_ratio(SIE(theta_E, light_ex, light_ey, light_x, light_y))
    first, second = q + AXIS_RATIO_SCATTER * jax.random.normal(keys[4], (2,))
    q = jnp.where(first > 1, jnp.minimum(second, 1), first)
    q = jnp.maximum(q, LEAST_AXIS_RATIO)
    phi = phi + ANGLE_SCATTER * jax.random.normal(keys[5])
    dx, dy = CENTRE_SCATTER * jax.random.normal(keys[6], (2,))
    mass = sie.from_axis_ratio(theta_E, q, phi, light_x + dx, light_y + dy)

    u, angle = jax.random.uniform(keys[7], (2,))
    radius, angle = REACH * theta_E * jnp.sqrt(u), 2 * jnp.pi * angle
    area = lenses.weight[i] * theta_E**2 / strongest
    plausible = jax.random.uniform(keys[8]) < area
    plausible &= (theta_E >= criteria.theta_E_min) & (theta_E <= criteria.theta_E_max)
    nothing = jnp.zeros_like(theta_E)
    return System(
        number=number,
        lens_index=i,
        source_index=j,
        rotation=rotation,
        sie=mass,
        beta_x=mass.x + radius * jnp.cos(angle),
        beta_y=mass.y + radius * jnp.sin(angle),
        z_lens=z_lens,
        z_source=z_source,
        vdisp=vdisp,
        z_drawn=z_drawn,
        vdisp_drawn=vdisp_drawn,
        n_images=jnp.zeros_like(i),
        arc_peak=nothing,
        log_flux_ratio=nothing,
    ), plausible


def is_multiple(row: System, criteria: Criteria) -> tuple[Array, Array]:
    """Number of images of the source's centre, and whether it is one that is wanted."""
    found = images.solve(system.mass_of(row), row.beta_x, row.beta_y)
    n = found.valid.sum().astype(row.n_images.dtype)
    wanted = {"both": n >= 2, "doubles": n == 2, "quads": n == 4}
    return n, wanted[criteria.multiplicity]


def draw(
    key: Array,
    size: int,
    catalogue: Catalogue,
    survey: Survey,
    pixel_scale: float,
    criteria: Criteria = DEFAULT_CRITERIA,
    cosmo: FlatLambdaCDM = cosmology.PAPER,
    batch: int = 8192,
    patience: int = 50_000_000,
    progress: Callable[[int], None] = lambda accepted: None,
) -> Sample:
    """A sample of `size` accepted systems, in the order of their proposals.

    Raises ValueError where `patience` proposals do not fill the sample, with the counts
    of what refused them.  `progress` is told the number accepted so far.
    """
    field = None
    if not np.isfinite([catalogue.lenses.z, catalogue.lenses.vdisp]).all():
        ellipticals = jax.jit(population.ellipticals, static_argnums=1)
        field = ellipticals(jax.random.fold_in(key, 2**31), 2048, cosmo)
    widest = float(_widest(catalogue.lenses).max())
    if widest < criteria.theta_E_min:
        raise ValueError(
            f"no lens of the catalogue can have an Einstein radius above {widest:.2f} "
            f"arcsec: theta_E_min is {criteria.theta_E_min}"
        )
    strongest = _strongest(catalogue.lenses, criteria)

    # the catalogue is an argument, not a constant: compiled code must not hold stamps
    @jax.jit
    def look(key, numbers, catalogue):
        def one(number):
            return propose(key, number, catalogue, field, criteria, cosmo, strongest)

        return jax.vmap(one)(numbers)

    plausible_numbers, multiple_numbers, bright_numbers = [], [], []

    def plausible() -> Iterator[System]:
        for start in range(0, patience, batch):
            numbers = jnp.arange(start, start + batch, dtype=jnp.int32)
            systems, keep = jax.tree.map(np.asarray, look(key, numbers, catalogue))
            yield _rows(systems, keep)

    def multiple() -> Iterator[System]:
        for systems in _in_blocks(plausible(), 512):
            plausible_numbers.append(systems.number)
            n, keep = jax.tree.map(np.asarray, _solve(systems, criteria))
            yield _rows(systems._replace(n_images=n), keep)

    accepted, count = [], 0
    capped = _Cap(criteria.cap)
    for systems in _in_blocks(multiple(), 64):
        multiple_numbers.append(systems.number)
        judged = _judge(systems, catalogue, survey, pixel_scale)
        peak, ratio = jax.tree.map(np.asarray, judged)
        systems = systems._replace(arc_peak=peak, log_flux_ratio=ratio)
        systems = _rows(systems, peak >= criteria.arc_peak)
        bright_numbers.append(systems.number)
        systems = _rows(systems, capped.admit(systems.sie.theta_E))
        accepted.append(systems)
        count += len(systems.number)
        progress(min(count, size))
        if count >= size:
            break
    if count < size:
        raise ValueError(
            f"{patience:,} proposals gave {count:,} of {size:,} systems: widen "
            f"theta_E_min ({criteria.theta_E_min}), arc_peak ({criteria.arc_peak}), "
            f"multiplicity ({criteria.multiplicity}) or cap ({criteria.cap}), or ask "
            "for fewer"
        )
    systems = jax.tree.map(lambda *a: np.concatenate(a)[:size], *accepted)
    last = systems.number[-1]

    def until_last(numbers):
        return int((np.concatenate(numbers) <= last).sum())

    return Sample(
        systems,
        {
            "proposed": int(last) + 1,
            "plausible": until_last(plausible_numbers),
            "multiply imaged": until_last(multiple_numbers),
            "bright enough": until_last(bright_numbers),
            "accepted": size,
        },
    )


# compiled once for all samples of the same criteria and survey
@partial(jax.jit, static_argnums=1)
def _solve(systems: System, criteria: Criteria) -> tuple[Array, Array]:
    return jax.vmap(lambda s: is_multiple(s, criteria))(systems)


@partial(jax.jit, static_argnums=(2, 3))
def _judge(
    systems: System, catalogue: Catalogue, survey: Survey, pixel_scale: float
) -> tuple[Array, Array]:
    return jax.lax.map(
        lambda s: system.brightness(s, catalogue, survey, pixel_scale), systems
    )


def _strongest(lenses: Lenses, criteria: Criteria) -> Array:
    """Largest weight x theta_E^2 that a proposal of this catalogue can have."""
    theta_E = jnp.minimum(_widest(lenses), criteria.theta_E_max)
    return (lenses.weight * theta_E**2).max()


def _widest(lenses: Lenses) -> Array:
    """Each lens's Einstein radius with the source infinitely far behind it."""
    most = population.VDISP_RANGE[1]
    vdisp = jnp.where(jnp.isfinite(lenses.vdisp), lenses.vdisp, most)
    return 4 * np.pi / cosmology.ARCSEC * (vdisp / cosmology.SPEED_OF_LIGHT) ** 2


class _Cap:
    """Admits systems in order until a bin of theta_E is full."""

    def __init__(self, cap: int):
        self.cap = cap
        self.filled: dict[int, int] = {}

    def admit(self, theta_E: np.ndarray) -> np.ndarray:
        if not self.cap:
            return np.ones(len(theta_E), bool)
        admitted = []
        for b in (theta_E / CAP_BIN).astype(int).tolist():
            admitted.append(self.filled.get(b, 0) < self.cap)
            self.filled[b] = self.filled.get(b, 0) + admitted[-1]
        return np.array(admitted, bool)


def _rows(systems: System, keep: np.ndarray) -> System:
    return jax.tree.map(lambda a: np.asarray(a)[keep], systems)


def _in_blocks(pieces: Iterable[System], size: int) -> Iterator[System]:
    """Rows of `pieces`, in order, in blocks of one shape: jit compiles once.

    A last, shorter block comes only when the pieces end.
    """
    held: System | None = None
    for piece in pieces:
        held = (
            piece
            if held is None
            else jax.tree.map(lambda *a: np.concatenate(a), held, piece)
        )
        while len(held.number) >= size:
            yield _rows(held, slice(0, size))
            held = _rows(held, slice(size, None))
    if held is not None and len(held.number):
        yield held


def to_table(
    sample: Sample, catalogue: Catalogue, listing: Listing, survey: Survey
) -> Table:
    """The sample as an astropy Table, one row a system, units on its columns."""
    s = sample.systems
    q, phi = (np.asarray(v) for v in sie.axis_ratio(s.sie))
    mag = np.asarray(catalogue.lenses.mag)[s.lens_index]
    light_x, light_y, light_ex, light_ey = (
        np.asarray(v)
        for v in system.light_of(catalogue.lenses, s.lens_index, s.rotation)
    )
    table = Table(
        {
            "id": [system.identifier(n) for n in s.number],
            "lens_id": np.array(listing.lens_id)[s.lens_index],
            "source_id": np.array(listing.source_id)[s.source_index],
            "rotation": s.rotation,
            "theta_E_arcsec": s.sie.theta_E,
            "ex": s.sie.ex,
            "ey": s.sie.ey,
            "center_x_arcsec": s.sie.x,
            "center_y_arcsec": s.sie.y,
            "q": q,
            "phi_rad": phi,
            "beta_x_arcsec": s.beta_x,
            "beta_y_arcsec": s.beta_y,
            "z_lens": s.z_lens,
            "z_source": s.z_source,
            "vdisp_kms": s.vdisp,
            "z_lens_drawn": s.z_drawn,
            "vdisp_drawn": s.vdisp_drawn,
            "n_images": s.n_images,
            "arc_peak_over_rms_i": s.arc_peak,
            "log_flux_ratio_i": s.log_flux_ratio,
            "light_x_arcsec": light_x,
            "light_y_arcsec": light_y,
            "light_ex": light_ex,
            "light_ey": light_ey,
            **{
                f"lens_mag_{band.lower()}": mag[:, b]
                for b, band in enumerate(survey.bands)
            },
        },
        meta={"counts": sample.counts, "catalogue": listing.origin},
    )
    for name in table.colnames:
        ending = {"arcsec": "arcsec", "kms": "km/s", "rad": "rad"}
        table[name].unit = ending.get(name.rsplit("_", 1)[-1])
    return table
