"""Levenberg-Marquardt with the linear numbers eliminated, in a bounded number of steps.

Fluxes of the source are solved for in every step (variable projection, Golub & Pereyra
1973, with Kaufman's derivative); the lens galaxy's light was eliminated before
(`basis`).  Everything is pure, and runs under vmap over starts and lenses.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax.inference import basis as _basis
from lensjax.inference.basis import Basis
from lensjax.render import Traced

LONGEST = 0.5  # step of a number
FIRST, LESS, MORE = 1e-2, 0.3, 5.0  # damping, and its factors
ENOUGH = 0.05  # of the cost, a log probability: a step that brings less is idle


class Quadratic(NamedTuple):
    """The cost about a place: half of chi2 over the temperature, and of the priors."""

    cost: Array
    gradient: Array  # (k,)
    hessian: Array  # (k, k) Gauss-Newton's
    gain: Array  # chi2 without the source less chi2 with it
    flux: Array  # (band,) of the source [counts]


class State(NamedTuple):
    """Where a descent is."""

    u: Array
    at: Quadratic
    damping: Array


def quadratic(
    u: Array,
    basis: Basis,
    traced: Callable[[Array], Traced],
    recorded: Callable[[Traced], Array],
    residuals: Callable[[Array], Array],
    temperature: Array | float,
) -> Quadratic:
    """Expand the cost about u.

    What the rays meet, `traced`, is differentiated; telescope and pixels, `recorded`
    (n, n, band) of unit fluxes, are linear: derivatives go through them as images do.
    """
    slopes = jax.vmap(lambda t: jax.jvp(traced, (u,), (t,)), out_axes=(None, 0))
    value, slope = slopes(jnp.eye(u.shape[0], dtype=u.dtype))
    patterns = jnp.concatenate([value.pattern[None], slope.pattern])
    # one by one: XLA would trace all rays anew for every transform that reads them
    images = jax.lax.map(lambda p: recorded(Traced(p, value.flux)), patterns)
    rows = _basis.flat(images) * basis.root[None]  # (1 + k, band, pixel)
    value = rows[0]
    # the largest is of order one: squares stay within float32
    size = jnp.sqrt((value**2).sum(-1)) + 1e-30
    rows = rows / size[None, :, None]
    inside = _basis.project_onto(basis.q, rows)
    gram = jnp.einsum("ibp,jbp->bij", rows, rows)
    gram = gram - jnp.einsum("ibc,jbc->bij", inside, inside)
    with_data = jnp.einsum("ibp,bp->bi", rows, basis.rest)
    ss = gram[:, 0, 0] + _basis.TINY
    sd = with_data[:, 0]
    flux = sd / ss
    gain = (sd**2 / ss).sum()
    # <ds, d - f s> and <ds, ds'> less what a change of flux takes up
    slope_rest = with_data[:, 1:] - flux[:, None] * gram[:, 1:, 0]
    inner = gram[:, 1:, 1:] - gram[:, 1:, :1] * gram[:, :1, 1:] / ss[:, None, None]
    gradient = -(flux[:, None] * slope_rest).sum(0) / temperature
    hessian = (flux[:, None, None] ** 2 * inner).sum(0) / temperature
    prior, prior_slope = residuals(u), jax.jacfwd(residuals)(u)
    return Quadratic(
        cost=(-gain / temperature + (prior**2).sum()) / 2,
        gradient=gradient + prior_slope.T @ prior,
        hessian=hessian + prior_slope.T @ prior_slope,
        gain=gain,
        flux=flux / size,
    )


def gain_of(image: Array, basis: Basis, positive: bool = False) -> Array:
    """What an image (n, n, band) takes off chi2 with the best flux in each band.

    With `positive`, bands whose flux would be negative count nothing.
    """
    seen = _basis.see(image, basis)
    data = jnp.maximum(seen.data, 0) if positive else seen.data
    return (data**2 / seen.own).sum()


def descend(u: Array, expand: Callable[[Array], Quadratic], steps: int) -> State:
    """Go down from u in at most so many steps; each that would go up is not taken.

    It ends before where two steps running bring less than `ENOUGH`.
    """

    def unfinished(carry):
        _, k, idle = carry
        return (k < steps) & (idle < 2)

    def step(carry):
        state, k, idle = carry
        h = state.at.hessian
        damped = h + state.damping * jnp.diag(jnp.diag(h))
        change = -jnp.linalg.solve(damped, state.at.gradient)
        u = state.u + jnp.clip(change, -LONGEST, LONGEST)
        at = expand(u)
        better = at.cost < state.at.cost  # nan is not
        near = state.damping < FIRST  # far steps that are damped are short by that
        little = better & near & (state.at.cost - at.cost < ENOUGH)
        new = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (u, at), (state.u, state.at)
        )
        factor = jnp.where(better, LESS, MORE)
        damping = jnp.clip(state.damping * factor, 1e-5, 1e5)
        return State(*new, damping), k + 1, jnp.where(little, idle + 1, 0)

    start = State(u, expand(u), jnp.asarray(FIRST, u.dtype))
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(unfinished, step, (start, zero, zero))[0]
