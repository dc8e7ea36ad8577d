"""Images of a point source behind an SIE in external shear: where, how bright, when.

The SIE's deflection depends on direction alone.  Let what = e^{it} (see `lensjax.sie`),
U(t) = what + eps conj(what) the direction on the sky that goes with it, Gamma the
shear, V = (1 - Gamma) U, and z the position from the lens centre.  The lens equation
(1 - Gamma) z = beta + alpha(t) says that z = r U(t) with r > 0, so images are zeros of

    F(t) = V x (beta + alpha(t)),

one smooth periodic function: no grid on the sky is needed.  Three facts bracket them:

* F'' + F = G(t) is free of the source, and its zeros are the caustic's cusps: those of
  a trigonometric polynomial of second degree in 2t, at most eight in t.
* Take an arc from cusp to cusp, shorter than pi, and its middle m.  There
  N = F' cos(t - m) + F sin(t - m) is monotone, for N' = G cos(t - m): it has one zero
  at most, where F / cos(t - m) turns.
* Between neighbours among cusps and turning points F / cos(t - m) is monotone, so that
  a change of sign is one zero and no change is none.

None is lost and none is doubled, however close two images lie.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lensjax import cosmology, units
from lensjax import lens as _lens
from lensjax import shear as _shear
from lensjax import sie as _sie
from lensjax.lens import Lens
from lensjax.sie import CORE

SLOTS = 8  # an SIE in strong shear has up to eight images, in weak shear four
_KNOTS = 64  # steps in 2t at which the cusps' polynomial is first looked at
_CUSPS = 4  # most zeros of that polynomial, of second degree
_ZEROS = 12  # zeros of F that are followed up; more than eight were never seen
_AT_ONCE = 4  # zeros sought side by side
_STEPS = 60  # at most, in a bracket: enough for bisection alone in float64


@units.record
class Images(NamedTuple):
    """Images of one point source in `SLOTS` slots, in the order of arrival.

    Empty slots come last: valid is False, positions are nan, the magnification is 0.
    """

    x: Array  # (SLOTS,) position [arcsec]
    y: Array  # (SLOTS,)
    magnification: Array  # (SLOTS,) signed: negative for a saddle point
    valid: Array  # (SLOTS,) bool

    UNITS = ("arcsec", "arcsec", "", "")


_Polynomial = tuple[Array, Array, Array]  # complex k0, k1, k2 of the cusps


class _Ring(NamedTuple):
    """What F(t) is made of."""

    lens: Lens
    e1: Array  # eps
    e2: Array
    b: Array  # theta_E (1 - |eps|^2)
    beta_x: Array  # source from the lens centre, moved by the shear's deflection there
    beta_y: Array


def _ring(lens: Lens, beta_x: Array, beta_y: Array) -> _Ring:
    sie, shear = lens
    e1, e2 = _sie.reduced_ellipticity(sie)
    shear_x, shear_y = _shear.deflect(shear, sie.x, sie.y)
    b = sie.theta_E * (1 - e1**2 - e2**2)
    return _Ring(lens, e1, e2, b, beta_x - sie.x + shear_x, beta_y - sie.y + shear_y)


def _along(ring: _Ring, c: Array, s: Array) -> tuple[Array, Array, Array, Array]:
    """Components of U and of V for what = c + i s; linear in c and s."""
    shear = ring.lens.shear
    ux, uy = c + ring.e1 * c + ring.e2 * s, s + ring.e2 * c - ring.e1 * s
    vx, vy = _shear.deflect(shear, ux, uy)
    return ux, uy, ux - vx, uy - vy


def _target(ring: _Ring, c: Array, s: Array) -> tuple[Array, Array]:
    """The vector beta + alpha: (1 - Gamma) z of an image."""
    alpha_x, alpha_y = _sie.deflect_along(ring.lens.sie, c, s)
    return ring.beta_x + alpha_x, ring.beta_y + alpha_y


def _crossing(ring: _Ring, t: Array) -> tuple[Array, Array]:
    """F(t) and F'(t); alpha' = b i U / |U|^2."""
    c, s = jnp.cos(t), jnp.sin(t)
    ux, uy, vx, vy = _along(ring, c, s)
    _, _, dvx, dvy = _along(ring, -s, c)
    x, y = _target(ring, c, s)
    turn = ring.b * (vx * ux + vy * uy) / (ux**2 + uy**2)
    return vx * y - vy * x, dvx * y - dvy * x + turn


def _bending(ring: _Ring, k: _Polynomial, t: Array) -> tuple[Array, Array]:
    """G(t) = F'' + F, from the cusps' polynomial k, and G'(t)."""
    ux, uy, _, _ = _along(ring, jnp.cos(t), jnp.sin(t))
    dux, duy, _, _ = _along(ring, -jnp.sin(t), jnp.cos(t))
    u2 = ux**2 + uy**2
    value, slope, _ = _evaluate(k, 2 * t)
    g = ring.b * value / u2**2
    return g, 2 * ring.b * slope / u2**2 - 4 * g * (ux * dux + uy * duy) / u2


def _cusp_polynomial(ring: _Ring) -> _Polynomial:
    """Complex k0, k1, k2 with G = b Im(k0 + k1 s + k2 s^2) / |U|^4, s = e^{2it}."""
    eps = lax.complex(ring.e1, ring.e2)
    g = lax.complex(*ring.lens.shear)
    p, r = 1 - jnp.conj(g) * eps, jnp.conj(eps - g)
    a1 = 3 * (p * jnp.conj(eps) - r)
    a2 = -r * jnp.conj(eps)
    k0 = p + 2 * eps * a1 + eps**2 * a2
    k1 = a1 + 2 * eps * a2 - jnp.conj(2 * eps * p + eps**2 * a1)
    return k0, k1, a2 - jnp.conj(eps**2 * p)


def _evaluate(k: _Polynomial, angle: Array) -> tuple[Array, Array, Array]:
    """Im(k0 + k1 s + k2 s^2) at s = e^{i angle}, and two derivatives."""
    k0, k1, k2 = k
    s = lax.complex(jnp.cos(angle), jnp.sin(angle))
    first, second = k1 * s, k2 * s**2
    return (
        (k0 + first + second).imag,
        (first + 2 * second).real,
        -(first + 4 * second).imag,
    )


def _root(
    f: Callable,
    low: Array,
    high: Array,
    low_positive: Array,
    wanted: Array,
    *more: Array,
) -> Array:
    """Zeros of f in brackets, those that are `wanted` in front.

    f(t, *more) gives value, slope and curvature.  A step goes to the zero of the
    parabola, which two zeros close together do not slow down as they do Newton's; where
    that is outside the bracket, to its middle.  Other brackets return something inside.
    """
    tolerance = jnp.finfo(low.dtype).eps ** 0.5  # a step so short leaves less than eps

    def some(row):
        low, high, low_positive, wanted, *more = row

        def narrow(state):
            low, high, t, _, count = state
            value, slope, curvature = f(t, *more)
            left = (value >= 0) == low_positive  # the zero lies to the right of t
            low, high = jnp.where(left, t, low), jnp.where(left, high, t)
            root = jnp.sqrt(jnp.maximum(slope**2 - 2 * value * curvature, 0))
            down = slope + jnp.where(low_positive, -root, root)
            new = t - 2 * value / jnp.where(down == 0, 1, down)
            # next to nothing is inside, too: t is an end, and rounding may step over it
            short = jnp.abs(new - t) < tolerance
            inside = ((new > low) & (new < high) | short) & (down != 0)
            new = jnp.where(inside, jnp.clip(new, low, high), (low + high) / 2)
            done = jnp.where(inside, short, (high - low) / 4 < tolerance)
            return low, high, new, done, count + 1

        def unfinished(state):
            *_, done, count = state
            return (count < _STEPS) & jnp.any(wanted & ~done)

        # of the brackets' own kind, not constants: see `_spread_as`
        nothing = wanted & ~wanted
        start = (low, high, (low + high) / 2, nothing, nothing[0].astype(int))
        return lax.while_loop(unfinished, narrow, start)[2]

    # a few at a time: most lenses have no more, and the others' turn then costs nothing
    rows = [a.reshape(-1, _AT_ONCE) for a in (low, high, low_positive, wanted, *more)]
    return lax.map(some, tuple(rows)).ravel()


def _brackets(
    knots: Array, positive: Array, size: int
) -> tuple[Array, Array, Array, Array]:
    """Low, high, sign at low, and whether real, of steps with a change of sign."""
    before = jnp.cumsum(positive[1:] != positive[:-1])  # changes up to each step
    step = (before[None] <= jnp.arange(size)[:, None]).sum(1)
    real, step = step < len(before), jnp.minimum(step, len(before) - 1)
    return knots[step], knots[step + 1], positive[step], real


def _spread_as(number: Array, constants: Array) -> Array:
    """Constants that follow a number of the lens over a mesh of devices.

    Lenses may be spread over axes of type Explicit; JAX joins nothing to their arrays
    under vmap that is not spread likewise.
    """
    # times zero, but nan stays nan: such a lens has no images anyway
    return constants + 0 * number


def _cusps(ring: _Ring) -> tuple[Array, Array]:
    """Angles t in [0, pi) of the cusps, (_CUSPS,), the others repeat a period later."""
    k = _cusp_polynomial(ring)
    dtype = ring.b.dtype
    edges = _spread_as(ring.b, jnp.linspace(0, 2 * jnp.pi, _KNOTS + 1, dtype=dtype))
    edges = edges + 0.01
    _, slope, _ = _evaluate(k, edges)
    # two zeros within one step: look where the polynomial turns, too
    left, right = slope[:-1], slope[1:]
    turns = (left >= 0) != (right >= 0)
    part = jnp.where(turns, left / jnp.where(turns, left - right, 1), 0.5)
    inner = edges[:-1] + part * (edges[1:] - edges[:-1])
    knots = jnp.append(jnp.stack([edges[:-1], inner], -1).ravel(), edges[-1])
    value, *_ = _evaluate(k, knots)
    low, high, sign, real = _brackets(knots, value >= 0, _CUSPS)
    angle = _root(lambda t: _evaluate(k, t), low, high, sign, real)
    return jnp.where(real, angle, edges[0]) / 2


def _directions(ring: _Ring) -> tuple[Array, Array]:
    """Zeros of F, (_ZEROS,), and which are real."""
    k = _cusp_polynomial(ring)
    cusps = _cusps(ring)
    # quarters of the circle keep every arc shorter than pi
    quarters = jnp.arange(4, dtype=cusps.dtype) * (jnp.pi / 2) + 0.005
    quarters = _spread_as(ring.b, quarters)
    t = jnp.sort(jnp.concatenate([cusps, cusps + jnp.pi, quarters]))
    t = jnp.append(t, t[0] + 2 * jnp.pi)
    value, slope = _crossing(ring, t)
    low, high, middle = t[:-1], t[1:], (t[1:] + t[:-1]) / 2
    half = (high - low) / 2
    n_low = slope[:-1] * jnp.cos(half) - value[:-1] * jnp.sin(half)
    n_high = slope[1:] * jnp.cos(half) + value[1:] * jnp.sin(half)

    def turning(t, middle):
        f, df = _crossing(ring, t)
        g, dg = _bending(ring, k, t)
        c, s = jnp.cos(t - middle), jnp.sin(t - middle)
        return df * c + f * s, g * c, dg * c - g * s

    # with a change of sign in F there is one zero in the arc, and no turning matters
    same = (value[1:] >= 0) == (value[:-1] >= 0)
    wanted = same & ((n_low >= 0) != (n_high >= 0))
    first = jnp.argsort(~wanted)
    arcs = [a[first] for a in (low, high, n_low >= 0, wanted, middle)]
    turn = middle.at[first].set(jnp.where(arcs[3], _root(turning, *arcs), arcs[4]))

    at_turn, _ = _crossing(ring, turn)
    knots = jnp.append(jnp.stack([low, turn], -1).ravel(), t[-1])
    values = jnp.append(jnp.stack([value[:-1], at_turn], -1).ravel(), value[-1])
    low, high, sign, real = _brackets(knots, values >= 0, _ZEROS)

    def crossing(t):
        f, df = _crossing(ring, t)
        return f, df, _bending(ring, k, t)[0] - f

    zeros = _root(crossing, low, high, sign, real)

    # a source exactly behind a round lens: F is zero everywhere, up to rounding
    size = jnp.abs(ring.b) + sum(
        jnp.abs(a) for a in (ring.beta_x, ring.beta_y, ring.lens.sie.x, ring.lens.sie.y)
    )
    ring_shaped = jnp.max(jnp.abs(values)) < 8 * jnp.finfo(size.dtype).eps * size
    return zeros, real & ~ring_shaped


@units.convert(beta_x="arcsec", beta_y="arcsec", core="arcsec")
def solve(
    lens: Lens, beta_x: ArrayLike, beta_y: ArrayLike, core: float = CORE
) -> Images:
    """Images of a point source at (beta_x, beta_y).

    Parameters
    ----------
    lens : Lens
        Scalars; |e| < 1, |g| < 1.
    beta_x, beta_y : scalar
        Source position [arcsec].
    core : float
        Softening length [arcsec] of the deflection that the positions solve, so that
        `lensjax.lens.ray_shoot` takes each back to the source.  The softened centre is
        never counted as an image.  Within about 1.5 (theta_E core^2)^(1/3) of the
        centre, 3e-3 arcsec, the softened lens has no image where the singular one has:
        there positions are those of the singular lens.

    Returns
    -------
    Images
        `SLOTS` slots, the valid ones first, sorted by arrival.

    Notes
    -----
    Counts: 4 inside caustic and cut, 2 inside the cut alone, 3 inside the caustic alone
    (naked cusp), 1 outside both: not strongly lensed; shear can add more.  A source
    exactly behind a round lens has a ring, which is no set of points: no slot is valid.

    Positions and magnifications can be differentiated twice with respect to lens and
    source, by the implicit function theorem at the solution; empty slots have zero
    gradients.  They diverge, rightly, for a source on a caustic.
    """
    lens = jax.tree.map(jnp.asarray, lens)
    dtype = jnp.result_type(float, *jax.tree.leaves(lens), beta_x, beta_y)
    lens = jax.tree.map(lambda a: a.astype(dtype), lens)
    beta_x, beta_y = jnp.asarray(beta_x, dtype), jnp.asarray(beta_y, dtype)

    fixed = lax.stop_gradient((lens, beta_x, beta_y))
    x, y, core, valid = _find(*fixed, jnp.asarray(core, dtype))
    tau = _lens.fermat_potential(fixed[0], x, y, *fixed[1:])
    order = jnp.argsort(jnp.where(valid, tau, jnp.inf))[:SLOTS]
    x, y, core, valid = x[order], y[order], core[order], valid[order]

    # A Newton step from a solution changes nothing but carries the first derivative of
    # the implicit function theorem, d theta = A^-1 (d beta + d alpha); a second step
    # carries the second derivative, and squares what A's neglect of the core leaves.
    # A scan, for XLA's compiler takes minutes over the same steps written out.
    def step(xy, _):
        return _newton(lens, beta_x, beta_y, *xy, core), None

    (x, y), _ = lax.scan(step, (x, y), length=2)
    magnification = _lens.magnification(lens, x, y, core)
    return Images(
        jnp.where(valid, x, jnp.nan),
        jnp.where(valid, y, jnp.nan),
        jnp.where(valid, magnification, 0),
        valid,
    )


def _newton(lens, beta_x, beta_y, x, y, core):
    seen_x, seen_y = _lens.ray_shoot(lens, x, y, core)
    miss_x, miss_y = seen_x - beta_x, seen_y - beta_y
    xx, xy, yy = _lens.jacobian(lens, x, y, core)
    det = xx * yy - xy**2
    return x - (yy * miss_x - xy * miss_y) / det, y - (xx * miss_y - xy * miss_x) / det


def _find(
    lens: Lens, beta_x: Array, beta_y: Array, core: Array
) -> tuple[Array, Array, Array, Array]:
    """Positions (_ZEROS,), the core length each was solved with, and which are real."""
    ring = _ring(lens, beta_x, beta_y)
    t, real = _directions(ring)
    c, s = jnp.cos(t), jnp.sin(t)
    ux, uy, vx, vy = _along(ring, c, s)
    x, y = _target(ring, c, s)
    distance = (vx * x + vy * y) / (vx**2 + vy**2)  # r of z = r U
    valid = real & (distance > 0)
    # empty slots rest far out, where A is regular in any shear but |g| = 1
    distance = jnp.where(valid, distance, 10 * (1 + jnp.abs(lens.sie.theta_E)))
    x, y = lens.sie.x + distance * ux, lens.sie.y + distance * uy

    # Then the softened lens.  Near the centre, within about 1.5 (theta_E core^2)^(1/3),
    # it has no image where the singular one has: there the singular one stays.
    def step(_, xy):
        return _newton(lens, beta_x, beta_y, *xy, core)

    soft_x, soft_y = lax.fori_loop(0, 6, step, (x, y))
    moved = jnp.hypot(soft_x - x, soft_y - y)
    seen_x, seen_y = _lens.ray_shoot(lens, soft_x, soft_y, core)
    miss = jnp.hypot(seen_x - beta_x, seen_y - beta_y)
    size = lens.sie.theta_E + jnp.abs(beta_x) + jnp.abs(beta_y)
    near = 64 * jnp.finfo(x.dtype).eps * size
    soft = valid & (moved < distance * jnp.hypot(ux, uy) / 2) & (miss < near)
    return (
        jnp.where(soft, soft_x, x),
        jnp.where(soft, soft_y, y),
        jnp.where(soft, core, 0),
        valid,
    )


@units.convert(beta_x="arcsec", beta_y="arcsec", D_dt="Mpc")
def arrival_times(
    lens: Lens, images: Images, beta_x: ArrayLike, beta_y: ArrayLike, D_dt: ArrayLike
) -> Array:
    """Arrival times of `images` after the first one.

    Parameters
    ----------
    lens, images, beta_x, beta_y
        As given to and returned by `solve`.
    D_dt : scalar
        Time-delay distance [Mpc], or a Quantity.

    Returns
    -------
    array (SLOTS,)
        Days after the first image, nan in empty slots.  (D_dt / c) times the difference
        in Fermat potential; differentiable, D_dt included.
    """
    # empty slots must not bring their nan into the gradient
    x, y = (jnp.where(images.valid, a, 0) for a in (images.x, images.y))
    tau = _lens.fermat_potential(lens, x, y, beta_x, beta_y)
    days = cosmology.MPC_IN_LIGHT_DAYS * cosmology.ARCSEC**2 * D_dt * tau
    return jnp.where(images.valid, days - days[0], jnp.nan)


def critical_curve(lens: Lens, n: int = 256) -> tuple[Array, Array]:
    """Tangential critical curve of the lens: closed, as (x, y), each (n,) [arcsec].

    det A is linear in the SIE's kappa along each direction, so no root is sought.  In
    shear so strong that the curve opens, points that lie at infinity are nan.
    """
    sie, shear = lens
    e1, e2 = _sie.reduced_ellipticity(sie)
    t = jnp.linspace(0, 2 * jnp.pi, n, dtype=jnp.result_type(float, e1))
    cx, cy = jnp.cos(t), jnp.sin(t)
    ux, uy = cx + e1 * cx + e2 * cy, cy + e2 * cx - e1 * cy
    r2 = ux**2 + uy**2
    # Re(conj(g) e^{2 i phi}) at polar angle phi of (ux, uy)
    along = (shear.g1 * (ux**2 - uy**2) + shear.g2 * 2 * ux * uy) / r2
    kappa = (1 - jnp.square(shear.g1) - jnp.square(shear.g2)) / (2 * (1 - along))
    # |w| of rho U is rho (1 - |eps|^2), and kappa = theta_E (1 - |eps|^2) / (2 |w|)
    rho = sie.theta_E / (2 * jnp.where(kappa > 0, kappa, jnp.nan))
    return sie.x + rho * ux, sie.y + rho * uy


def caustic(lens: Lens, n: int = 256) -> tuple[Array, Array]:
    """Tangential caustic (the diamond) on the source plane: (x, y), (n,) [arcsec]."""
    return _lens.ray_shoot(lens, *critical_curve(lens, n), core=0.0)


def cut(lens: Lens, n: int = 256) -> tuple[Array, Array]:
    """The cut, across which one image appears at the lens centre: (x, y) [arcsec].

    The singular lens' pseudo-caustic, closed, each (n,): the source positions seen at
    the centre from every direction.
    """
    t = jnp.linspace(0, 2 * jnp.pi, n, dtype=jnp.result_type(float, lens.sie.theta_E))
    alpha_x, alpha_y = _sie.deflect_along(lens.sie, jnp.cos(t), jnp.sin(t))
    shear_x, shear_y = _shear.deflect(lens.shear, lens.sie.x, lens.sie.y)
    return lens.sie.x - shear_x - alpha_x, lens.sie.y - shear_y - alpha_y
