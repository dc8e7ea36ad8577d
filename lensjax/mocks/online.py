"""Training systems that are never seen twice: drawn and accepted within the step.

Each slot of a batch makes a fixed number of proposals, looks at the arcs of the first
few that are worth it, and takes the first that the sample's criteria accept.  That is
a draw from the very distribution of a sample.  A slot that finds none has no weight.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import cosmology
from lensjax.catalogue import Catalogue
from lensjax.cosmology import FlatLambdaCDM
from lensjax.mocks import acceptance, batching, proposals, sample, system
from lensjax.mocks.acceptance import CAP_BIN
from lensjax.mocks.proposals import Criteria, Pool
from lensjax.mocks.sample import Sample
from lensjax.mocks.system import Rendering, System


class Online(NamedTuple):
    """How systems are drawn within a step; static under jit."""

    criteria: Criteria
    cosmo: FlatLambdaCDM = cosmology.PAPER
    proposals: int = 96  # a slot
    candidates: int = 4  # of them whose images and arcs are looked at


def thinning(drawn: Sample, criteria: Criteria) -> np.ndarray:
    """Share to admit in each bin of theta_E (bins,), so that a cap is kept on average.

    What the cap let in of a drawn sample, bin by bin; 1 without a cap.
    """
    share = np.ones(int(criteria.theta_E_max / CAP_BIN) + 2, np.float32)
    if criteria.cap:
        # a row's weight is as many times the least as it has refused ones to stand for
        share[acceptance.bins(drawn.systems.sie.theta_E)] = (
            drawn.weight.min() / drawn.weight
        )
    return share


def draw(
    key: Array,
    slots: int,
    among: tuple[Array, Array],
    pool: Pool,
    catalogue: Catalogue,
    thinning: Array,
    rendering: Rendering,
    online: Online,
) -> tuple[System, Array]:
    """Systems (slots,) of the lenses `among`, and which slots found one.

    among: rows of the catalogue, padded, and how many of them count.  pool: of this
    catalogue, see `proposals.pool`.  thinning: see the function of that name.
    """

    def one(key):
        return _slot(key, among, pool, catalogue, thinning, rendering, online)

    return batching.each(one, jax.random.split(key, slots))


def _slot(key, among, pool, catalogue, thinning, rendering, online):
    criteria = online.criteria
    keys = jax.random.split(key, online.proposals)
    numbers = jax.random.bits(jax.random.fold_in(key, 0), keys.shape) >> 1

    def propose(key, number):
        number = number.astype(jnp.int32)
        row, plausible = proposals.pair(
            key, number, pool, criteria, online.cosmo, among
        )
        row, placed = proposals.place(key, row, criteria)
        admitted = thinning[(row.sie.theta_E / CAP_BIN).astype(int)]
        u = jax.random.uniform(jax.random.fold_in(key, 2))
        return row, plausible & placed & (u < admitted)

    rows, worth = jax.vmap(propose)(keys, numbers)
    first = jnp.argsort(~worth)[: online.candidates]  # stable: in order

    def judge(row):
        n = proposals.count_images(row)
        wanted = proposals.wanted(n, criteria.multiplicity)
        psf = catalogue.psfs[row.psf_index]
        peak, ratio = system.brightness(
            row, pool.lenses, catalogue.sources, psf, rendering, sample.COARSE
        )
        row = row._replace(n_images=n, arc_peak=peak, log_flux_ratio=ratio)
        return row, wanted & (peak >= criteria.arc_peak)

    rows = jax.tree.map(lambda a: a[first], rows)
    rows, accepted = jax.lax.map(judge, rows)
    accepted &= worth[first]
    taken = accepted.argmax()
    row = jax.tree.map(lambda a: a[taken], rows)
    return proposals.without_arcs(key, row, criteria), accepted.any()
