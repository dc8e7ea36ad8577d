"""From the lowest places of a cost to a posterior: Laplace, then importance weights.

Each mode is drawn from by a Student-t about it, as wide as Laplace's approximation, and
each draw weighted by how much more likely the model is than the t has it.  The mean
weight is the mode's evidence, by which modes are weighed against each other.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln

from lensjax.inference.levenberg_marquardt import Quadratic, State

FREEDOM = 5.0  # degrees of freedom of the t: tails wider than the posterior's
ALIKE = 0.3  # sigma: nearer together two modes are one


class Draws(NamedTuple):
    """Weighted draws of one mode."""

    u: Array  # (draw, k) unconstrained
    log_weight: Array  # (draw,) of weights whose sum is 1
    log_evidence: Array  # ()


def of_mode(
    key: Array, mode: State, cost: Callable[[Array], Array], number: int
) -> Draws:
    """Draw from a mode; `cost` is minus the log of the posterior at u (k,)."""
    k = mode.u.shape[0]
    root = root_of(mode.at.hessian)
    normal, chi = jax.random.split(key)
    z = jax.random.normal(normal, (number, k), mode.u.dtype)
    stretch = FREEDOM / (2 * jax.random.gamma(chi, FREEDOM / 2, (number,), z.dtype))
    t = z * jnp.sqrt(stretch)[:, None]
    u = mode.u[None] + t @ root.T
    log_norm = gammaln((FREEDOM + k) / 2) - gammaln(FREEDOM / 2)
    log_norm = log_norm - k / 2 * jnp.log(FREEDOM * jnp.pi)
    log_q = log_norm - (FREEDOM + k) / 2 * jnp.log1p((t**2).sum(-1) / FREEDOM)
    log_q = log_q - jnp.log((root**2).sum(0)).sum() / 2
    value = jax.lax.map(cost, u, batch_size=8)
    log_weight = jnp.where(jnp.isfinite(value), -value, -jnp.inf) - log_q
    total = jax.nn.logsumexp(log_weight)
    return Draws(u, log_weight - total, total - math.log(number))


def nan_like(shapes: Any) -> Any:
    """A tree of arrays of NaN, of these shapes."""
    return jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), shapes)


def only(chosen: Array, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function makes of the rows that are chosen, one by one; NaN elsewhere."""
    first = jax.tree.map(lambda a: a[0], arguments)
    nothing = nan_like(jax.eval_shape(function, *first))
    return jax.lax.map(
        lambda one: jax.lax.cond(one[0], function, lambda *_: nothing, *one[1]),
        (chosen, arguments),
    )


def laplace(at: Quadratic) -> Array:
    """Log evidence of a mode by its height and its Hessian, up to a constant."""
    return jnp.log((root_of(at.hessian) ** 2).sum(0)).sum() / 2 - at.cost


def root_of(hessian: Array) -> Array:
    """The square root (k, k) of a Hessian's inverse, an axis of the ellipsoid a column.

    A direction without a hold, along which the Hessian is less than one, is a unit
    wide.
    """
    # LAPACK may never come back from a matrix with NaN
    sound = jnp.isfinite(hessian).all()
    hessian = jnp.where(sound, hessian, jnp.eye(len(hessian), dtype=hessian.dtype))
    values, vectors = jnp.linalg.eigh(hessian)
    return vectors / jnp.sqrt(jnp.maximum(values, 1.0))[None]


def distinct(modes: State) -> Array:
    """Which of the modes (mode,), the lowest first, are not others found again."""
    u, hessian = modes.u, modes.at.hessian
    difference = u[:, None] - u[None]
    apart = jnp.einsum("abi,aij,abj->ab", difference, hessian, difference)
    near = apart < ALIKE**2 * u.shape[-1]
    before = jnp.tril(jnp.ones_like(near), -1)
    return ~(near & before).any(1)


def quantiles(values: Array, weight: Array, at: tuple[float, ...]) -> Array:
    """Weighted quantiles (len(at), ...) of values (draw, ...), weights (draw,)."""

    def one(column):
        order = jnp.argsort(column)
        below = jnp.cumsum(weight[order]) - weight[order] / 2
        return jnp.interp(jnp.asarray(at, column.dtype), below, column[order])

    columns = values.reshape(values.shape[0], -1)
    found = jax.vmap(one, 1, 1)(columns)
    return found.reshape(len(at), *values.shape[1:])
