"""Samples of mock systems: proposals drawn, solved and accepted; rows, no images.

A row says who lenses whom, from where and with which mass; `system.render` makes its
image when it is wanted.  Proposals are numbered, and each is a function of the sample's
key and its number alone: the same key gives the same table, whatever the batches or
devices.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table
from jax import Array

from lensjax import cosmology, mock, sie
from lensjax.catalogue import Catalogue, Lenses, Listing, Sources
from lensjax.cosmology import FlatLambdaCDM
from lensjax.mocks import batching, proposals
from lensjax.mocks import system as _system
from lensjax.mocks.acceptance import Desk, check_room
from lensjax.mocks.proposals import Criteria, Pool
from lensjax.mocks.system import Rendering, System
from lensjax.survey import Survey

COARSE = 2  # rays along a pixel's side for a look at the arcs
DOUBT = 0.05  # so close to the least peak a mock's full number of rays decides

BLOCK, ARCS_BLOCK = 512, 64  # systems that are computed at once
PATIENCE = 20_000  # candidates in a row whose arcs are all too faint

DEFAULT_CRITERIA = Criteria()


class Sample(NamedTuple):
    """Accepted systems, how many proposals they took, and what they stand for."""

    systems: System
    counts: dict[str, int]
    weight: np.ndarray  # (N,) cross-section that each stands for [arcsec^2]


def draw(
    key: Array,
    size: int,
    catalogue: Catalogue,
    rendering: Rendering,
    criteria: Criteria = DEFAULT_CRITERIA,
    cosmo: FlatLambdaCDM = cosmology.PAPER,
    batch: int = 8192,
    patience: int = 20_000_000,
    progress: Callable[[int], None] = lambda accepted: None,
) -> Sample:
    """A sample of `size` accepted systems, in the order of their proposals.

    `Sample.weight` sums to the mean over all pairs of a lens and a source galaxy of the
    area [arcsec^2] in which that source would have been accepted; within the sample it
    undoes the cap (where theta_E is free it says nothing).  Samples of doubles and of
    quads are mixed as nature would by drawing rows of both by weight.

    Raises ValueError, with what to widen, where `patience` proposals in a row are all
    refused, or very many for their arcs.  `progress` is told the number accepted so
    far.
    """
    pool = proposals.pool(key, catalogue, rendering.survey, criteria, cosmo)
    check_room(size, catalogue, rendering, criteria)

    # what decides nothing in compiled code must not compile it anew
    paired = criteria._replace(arc_peak=0.0, cap=0, once=False, multiplicity="both")
    placing = Criteria(multiplicity=criteria.multiplicity, shear=criteria.shear)
    passed: dict[str, list[np.ndarray]] = {}

    def note(name: str, systems: System) -> System:
        passed.setdefault(name, []).append(systems.number)
        return systems

    def plausible() -> Iterator[System]:
        nonlocal position
        while position < min(latest + patience, 2**31 - batch) and futile <= PATIENCE:
            numbers = jnp.arange(position, position + batch, dtype=jnp.int32)
            position += batch
            systems, keep = jax.tree.map(
                np.asarray, _look(key, numbers, pool, paired, cosmo)
            )
            yield note("plausible", batching.rows(systems, keep))

    def placed() -> Iterator[System]:
        for systems in batching.of_size(plausible(), BLOCK):
            found, kept = _of_full_block(
                lambda rows: _place(key, rows, placing), systems, BLOCK
            )
            yield note("placed", batching.rows(found, kept))

    def multiple() -> Iterator[System]:
        for systems in batching.of_size(placed(), BLOCK):
            n = _of_full_block(_count_images, systems, BLOCK)
            wanted = proposals.wanted(n, criteria.multiplicity)
            systems = systems._replace(n_images=n)
            yield note("multiply imaged", batching.rows(systems, wanted))

    def candidates() -> Iterator[System]:
        for systems in multiple():
            yield batching.rows(systems, desk.with_room(systems))

    def look_at_arcs(systems: System, rays: int, block: int) -> System:
        def look(systems):
            psfs = catalogue.psfs[systems.psf_index]
            return _look_at_arcs(
                systems, pool.lenses, catalogue.sources, psfs, rendering, rays
            )

        peak, ratio = _of_full_block(look, systems, block)
        return systems._replace(arc_peak=peak, log_flux_ratio=ratio)

    def judge(systems: System) -> System:
        seen = look_at_arcs(systems, COARSE, ARCS_BLOCK)
        near = np.abs(seen.arc_peak - criteria.arc_peak) < DOUBT * criteria.arc_peak
        near = np.flatnonzero(near)
        for first in range(0, len(near), 8):
            k = near[first : first + 8]
            closer = look_at_arcs(batching.rows(systems, k), mock.SUPERSAMPLING, 8)
            seen.arc_peak[k] = closer.arc_peak
            seen.log_flux_ratio[k] = closer.log_flux_ratio
        return seen

    desk = Desk(criteria.cap, criteria.once)
    accepted, count, before, futile, position, latest = [], 0, -1, 0, 0, 0
    # when patience ends what waits for full blocks is judged, and may renew it
    while before < count < size:
        before, latest = count, position
        for systems in batching.ahead(
            judge, batching.of_size(candidates(), ARCS_BLOCK)
        ):
            futile += len(systems.number)
            systems = batching.rows(systems, systems.arc_peak >= criteria.arc_peak)
            systems = batching.rows(systems, desk.admit(systems))
            if len(systems.number):
                accepted.append(systems)
                count += len(systems.number)
                futile, latest = 0, max(latest, int(systems.number[-1]))
            progress(min(count, size))
            if count >= size:
                break
    if count < size:
        refused = (
            f"{futile:,} candidates" if futile > PATIENCE else f"{patience:,} proposals"
        )
        raise ValueError(
            f"{refused} in a row were refused after {count:,} of {size:,} systems: "
            f"widen theta_E_min ({criteria.theta_E_min}), arc_peak "
            f"({criteria.arc_peak}), multiplicity ({criteria.multiplicity}), cap "
            f"({criteria.cap}) or once ({criteria.once}), or ask for fewer"
        )
    systems = batching.rows(batching.joined(accepted), slice(0, size))
    if criteria.arc_free:
        bare = _without_arcs(key, jax.tree.map(jnp.asarray, systems), criteria)
        systems = jax.tree.map(np.asarray, bare)
    last = int(systems.number[-1])
    counts = {"proposed": last + 1}
    for name, numbers in passed.items():
        counts[name] = int((np.concatenate(numbers) <= last).sum())
    counts["accepted"] = size

    largest = proposals.largest_region(
        criteria.multiplicity, proposals.LARGEST_SHEAR * criteria.shear
    )
    # a proposal that is never dropped stands for this area behind its lens
    area = float(pool.strongest) * largest / float(pool.lenses.weight.mean())
    weight = desk.stand_for(systems.sie.theta_E, last) * area / counts["proposed"]
    return Sample(systems, counts, weight.astype(np.float32))


def _of_full_block(function: Callable, systems: System, size: int) -> Any:
    """`function` of some systems, on the host, computed as a block of one size.

    A last, shorter block would be compiled anew: it is filled up with its own rows.
    """
    n = len(systems.number)
    whole = batching.rows(systems, np.resize(np.arange(n), size))
    # copies, which may be written to
    return jax.tree.map(lambda a: np.array(a[:n]), function(whole))


# the catalogue is an argument, not a constant: compiled code must not hold it
@partial(jax.jit, static_argnums=3)
def _look(
    key: Array, numbers: Array, pool: Pool, criteria: Criteria, cosmo: FlatLambdaCDM
) -> tuple[System, Array]:
    def one(number):
        own = jax.random.fold_in(key, number)
        return proposals.pair(own, number, pool, criteria, cosmo)

    return jax.vmap(one)(numbers)


@partial(jax.jit, static_argnums=2)
def _place(key: Array, systems: System, criteria: Criteria) -> tuple[System, Array]:
    def one(row):
        own = jax.random.fold_in(key, row.number)
        return proposals.place(own, row, criteria)

    return jax.vmap(one)(systems)


@partial(jax.jit, static_argnums=2)
def _without_arcs(key: Array, systems: System, criteria: Criteria) -> System:
    def one(row):
        own = jax.random.fold_in(key, row.number)
        return proposals.without_arcs(own, row, criteria)

    return jax.vmap(one)(systems)


@jax.jit
def _count_images(systems: System) -> Array:
    return jax.vmap(proposals.count_images)(systems)


@partial(jax.jit, static_argnums=(4, 5))
def _look_at_arcs(
    systems: System,
    lenses: Lenses,
    sources: Sources,
    psfs: Array,
    rendering: Rendering,
    rays: int,
) -> tuple[Array, Array]:
    def one(args):
        row, psf = args
        return _system.brightness(row, lenses, sources, psf, rendering, rays)

    return jax.lax.map(one, (systems, psfs))


def to_table(
    sample: Sample, catalogue: Catalogue, listing: Listing, survey: Survey
) -> Table:
    """The sample as an astropy Table, one row a system, units on its columns."""
    s = sample.systems
    q, phi = (np.asarray(v) for v in jax.jit(sie.axis_ratio)(s.sie))
    mag = np.asarray(catalogue.lenses.mag)[s.lens_index]
    band = survey.detection_band
    table = Table(
        {
            "id": [_system.identifier(n) for n in s.number],
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
            "shear_g1": s.shear.g1,
            "shear_g2": s.shear.g2,
            "beta_x_arcsec": s.beta_x,
            "beta_y_arcsec": s.beta_y,
            "z_lens": s.z_lens,
            "z_source": s.z_source,
            "vdisp_kms": s.vdisp,
            "z_lens_drawn": s.z_drawn,
            "vdisp_drawn": s.vdisp_drawn,
            "n_images": s.n_images,
            f"arc_peak_over_rms_{band}": s.arc_peak,
            f"log_flux_ratio_{band}": s.log_flux_ratio,
            "weight_arcsec2": sample.weight,
            "shift_x_pixel": s.shift_x,
            "shift_y_pixel": s.shift_y,
            "psf_index": s.psf_index,
            "light_x_arcsec": s.light_x,
            "light_y_arcsec": s.light_y,
            "light_ex": s.light_ex,
            "light_ey": s.light_ey,
            **{
                f"lens_mag_{name.lower()}": mag[:, b]
                for b, name in enumerate(survey.bands)
            },
        },
        meta={"counts": sample.counts, "catalogue": listing.origin},
    )
    units = {"kms": "km/s", "pixel": "pix"} | {
        u: u for u in ("arcsec", "arcsec2", "rad")
    }
    for name in table.colnames:
        table[name].unit = units.get(name.rsplit("_", 1)[-1])
    return table
