"""The singular isothermal ellipsoid (SIE), without a singular case.

Conventions (docs/conventions.md): kappa = theta_E / ((1 + q) r) with
r^2 = x^2 + y^2 / q^2 along the major axis (Barkana 1998; Schuldt et al. 2021, eq. 1
and 2), so ``theta_E`` is the arithmetic mean of the critical ellipse's semi-axes, and
(ex, ey) = (1 - q^2) / (1 + q^2) (cos 2 phi, sin 2 phi) with phi from +x towards +y.

In complex notation, with z the position from the centre and
eps = (1 - q) / (1 + q) e^{2 i phi}:

    w = z - eps conj(z),    what = w / sqrt(|w|^2 + core^2),
    alpha = theta_E (1 - |eps|^2) what h(conj(eps) what^2),
    h(t) = atan(sqrt t) / sqrt t.

h is analytic, so there is no branch at q = 1, no position angle and no rotation; it is
the form of Kormann et al. (1994) and of Tessore & Metcalf (2015) at slope one.  Values
in float32 alone are computed in the ellipse's frame, for speed (`_in_frame`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lensjax import units

CORE = 1e-4
"""Softening length [arcsec] of Schuldt et al. (2021).

At the very centre the deflection's gradient is of size theta_E / CORE: finite, and
within the range of float32.  At a distance r the deflection is off by
theta_E (CORE / r)^2 / 2.
"""


@units.record
class SIE(NamedTuple):
    """A singular isothermal ellipsoid; scalars, `jax.vmap` for many.

    A field may be given as an astropy Quantity, and is a plain number from then on.
    """

    theta_E: ArrayLike  # Einstein radius of kappa = theta_E / ((1 + q) r) [arcsec]
    ex: ArrayLike  # (1 - q^2) / (1 + q^2) cos 2 phi
    ey: ArrayLike  # (1 - q^2) / (1 + q^2) sin 2 phi
    x: ArrayLike  # centre [arcsec]
    y: ArrayLike

    UNITS = ("arcsec", "", "", "arcsec", "arcsec")


_of_position = units.convert(x="arcsec", y="arcsec", core="arcsec")


@units.convert(theta_E="arcsec", q="", phi="rad", x="arcsec", y="arcsec")
def from_axis_ratio(
    theta_E: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
    x: ArrayLike = 0.0,
    y: ArrayLike = 0.0,
) -> SIE:
    """SIE from the axis ratio q in (0, 1] and the major axis' angle phi [rad from +x].

    Schuldt et al. (2021), eq. 4.  Outside jit each argument may be an astropy Quantity.
    q > 1 gives the ellipse of 1 / q, turned by a right angle.  Fields come back in the
    arguments' common shape, ready for `jax.vmap`.
    """
    # times 1.0: an integer has no gradient
    fields = (1.0 * jnp.asarray(a) for a in (theta_E, q, phi, x, y))
    theta_E, q, phi, x, y = jnp.broadcast_arrays(*fields)
    amplitude = (1 - q**2) / (1 + q**2)
    return SIE(
        theta_E, amplitude * jnp.cos(2 * phi), amplitude * jnp.sin(2 * phi), x, y
    )


def axis_ratio(lens: SIE) -> tuple[Array, Array]:
    """Axis ratio q and major-axis angle phi in (-pi/2, pi/2] [rad from +x] of the mass.

    The inverse of eq. 4; eq. 5 of Schuldt et al. (2021) as printed is not (see
    docs/conventions.md).  A round lens has q = 1 and phi = 0, with zero gradients: |e|
    has a kink there and the angle has no meaning.  |e| >= 1 gives nan: no such ellipse.
    """
    ex, ey = jnp.asarray(lens.ex), jnp.asarray(lens.ey)
    e2 = ex**2 + ey**2
    round_ = e2 == 0
    # double where: sqrt and atan2 have no gradient at the origin
    e = jnp.where(round_, 0, jnp.sqrt(jnp.where(round_, 1, e2)))
    phi = jnp.where(round_, 0, jnp.arctan2(ey, jnp.where(round_, 1, ex)) / 2)
    return jnp.sqrt((1 - e) / (1 + e)), phi


def reduced_ellipticity(lens: SIE) -> tuple[Array, Array]:
    """Real and imaginary part of eps = (1 - q) / (1 + q) e^{2 i phi}, smooth at e = 0.

    |e| >= 1 gives nan: there is no such ellipse.
    """
    ex, ey = jnp.asarray(lens.ex), jnp.asarray(lens.ey)
    scale = 1 / (1 + jnp.sqrt(1 - ex**2 - ey**2))
    return ex * scale, ey * scale


@_of_position
def direction(
    lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array, Array]:
    """Components of what, and the softened elliptical radius |w| [arcsec], at (x, y).

    Far from the core (components)^2 sum to one; they vanish at the centre.
    """
    wx, wy, radius2 = _elliptical(lens, x, y, core)
    radius = jnp.sqrt(radius2)
    return wx / radius, wy / radius, radius


def _elliptical(
    lens: SIE, x: ArrayLike, y: ArrayLike, core: float
) -> tuple[Array, Array, Array]:
    """Components of w, and |w|^2 + core^2 [arcsec^2]."""
    e1, e2 = reduced_ellipticity(lens)
    dx, dy = jnp.asarray(x) - lens.x, jnp.asarray(y) - lens.y
    wx = (1 - e1) * dx - e2 * dy
    wy = (1 + e1) * dy - e2 * dx
    return wx, wy, wx**2 + wy**2 + core**2


@_of_position
def deflect(
    lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array]:
    """Deflection angle of a singular isothermal ellipsoid.

    Parameters
    ----------
    lens : SIE
        Any dtype; scalars, or arrays that broadcast with x and y.
    x, y : array
        Positions on the sky [arcsec], of any common shape.
    core : float
        Softening length [arcsec].  With 0 the profile is singular and the value at the
        centre is nan.

    Returns
    -------
    alpha_x, alpha_y : array
        Shape of x [arcsec].  Zero at the lens centre; of the size of theta_E elsewhere,
        and independent of the distance from the centre for distances >> core.  nan
        where |e| >= 1.

    Notes
    -----
    Schuldt et al. (2021), eq. 1; see the module's head for the form used.  Values and
    derivatives of every order are finite for all q in (0, 1], q = 1 included.
    """
    wx, wy, radius2 = _elliptical(lens, x, y, core)
    return _deflect(lens, wx, wy, radius2)


@units.convert(cx="", cy="")
def deflect_along(lens: SIE, cx: Array, cy: Array) -> tuple[Array, Array]:
    """Deflection [arcsec] in the direction what = cx + i cy, all that it depends on."""
    return _deflect(lens, cx, cy, jnp.ones((), jnp.result_type(float, cx)))


def _deflect(lens: SIE, wx: Array, wy: Array, radius2: Array) -> tuple[Array, Array]:
    e1, e2 = reduced_ellipticity(lens)
    ax, ay = _arctangent(e1, e2, wx, wy, radius2)
    b = lens.theta_E * (1 - e1**2 - e2**2)
    return b * ax, b * ay


@_of_position
def convergence(lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Convergence at (x, y) [arcsec]; at the centre theta_E (1 - |eps|^2) / (2 core).

    Schuldt et al. (2021), eq. 1.
    """
    e1, e2 = reduced_ellipticity(lens)
    _, _, radius = direction(lens, x, y, core)
    return lens.theta_E * (1 - e1**2 - e2**2) / (2 * radius)


@_of_position
def potential(lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Lensing potential psi [arcsec^2], zero at the centre; its gradient is `deflect`.

    psi = theta . alpha, exact for core = 0; with a core it is off by O(core * theta_E).
    """
    alpha_x, alpha_y = deflect(lens, x, y, core)
    return (jnp.asarray(x) - lens.x) * alpha_x + (jnp.asarray(y) - lens.y) * alpha_y


@_of_position
def shear_components(
    lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array]:
    """Shear (gamma_1, gamma_2) of the SIE at (x, y): |gamma| = kappa, tangential."""
    dx, dy = jnp.asarray(x) - lens.x, jnp.asarray(y) - lens.y
    kappa = convergence(lens, x, y, core)
    r2 = dx**2 + dy**2 + core**2
    return -kappa * (dx**2 - dy**2) / r2, -2 * kappa * dx * dy / r2


@_of_position
def magnification(lens: SIE, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Signed magnification 1 / (1 - 2 kappa); infinite on the critical curve."""
    return 1 / (1 - 2 * convergence(lens, x, y, core))


@jax.custom_jvp
def _arctangent(
    e1: Array, e2: Array, wx: Array, wy: Array, radius2: Array
) -> tuple[Array, Array]:
    """atan(sqrt(conj eps) what) / sqrt(conj eps) = what h(conj(eps) what^2).

    In float32 by real arctangents in the frame of the ellipse, which is twice as fast;
    its derivatives, and float64, by the form that has no frame.
    """
    if jnp.result_type(e1, e2, wx, wy, radius2) == jnp.float32:
        given = (e1, e2, wx, wy, radius2)  # some may be of half precision
        return _in_frame(*(jnp.asarray(a, jnp.float32) for a in given))
    return _without_frame(e1, e2, wx, wy, radius2)


@_arctangent.defjvp
def _(primals, tangents):
    return jax.jvp(_without_frame, primals, tangents)


def _without_frame(e1, e2, wx, wy, radius2) -> tuple[Array, Array]:
    radius = jnp.sqrt(radius2)
    cx, cy = wx / radius, wy / radius
    c2, s2 = cx**2 - cy**2, 2 * cx * cy
    h = _atan_over_argument(e1 * c2 + e2 * s2, e1 * s2 - e2 * c2)
    return _times((cx, cy), h)


def _in_frame(e1, e2, wx, wy, radius2) -> tuple[Array, Array]:
    """The same by two real arctangents, in float32 and in the frame of the ellipse.

    With p + i s = sqrt(|eps|) what there, Re atan(p + i s) is half the angle of
    (1 - p^2 - s^2) + 2 i p and Im atan(p + i s) half of atanh(2 s / (1 + p^2 + s^2));
    numerators and denominators are multiplied by radius^2.
    """
    # rounder lenses cannot be told from this one in float32, nor has it a major axis
    m = jnp.maximum(jnp.sqrt(e1**2 + e2**2), 1e-8)
    phi = jnp.arctan2(e2, jnp.where(e1**2 + e2**2 > 0, e1, 1)) / 2
    c, s, root = jnp.cos(phi), jnp.sin(phi), jnp.sqrt(m)
    along, across = root * (c * wx + s * wy), root * (c * wy - s * wx)
    radius, along2 = jnp.sqrt(radius2), along**2
    p = _atan_of_quotient(2 * radius * along, radius2 - along2 - across**2)
    # atanh(n / d) is log((d + n) / (d - n)) / 2: two squares, with no digits lost
    above, below = along2 + (radius + across) ** 2, along2 + (radius - across) ** 2
    q = _half_log_of_quotient(above, below, 4 * radius * across)
    return (c * p - s * q) / (2 * root), (s * p + c * q) / (2 * root)


def _odd_series(function, end: float, terms: int) -> list[float]:
    """Coefficients a of x (a_0 + a_1 x^2 + ...) for an odd function on |x| < end."""
    x2 = end**2 * (1 - np.cos(np.pi * (np.arange(64) + 0.5) / 64)) / 2
    even = function(np.sqrt(x2)) / np.sqrt(x2)
    fit = np.polynomial.Chebyshev.fit(x2, even, terms - 1, domain=[0, end**2])
    return fit.convert(kind=np.polynomial.Polynomial).coef.tolist()


_EIGHTH = math.tan(math.pi / 8)
# truncated by 6e-10 and 3e-12
_ATAN = _odd_series(np.arctan, _EIGHTH, 6)
_ATANH = _odd_series(np.arctanh, 1 / 3, 7)


def _evaluated(coefficients: list[float], x: Array) -> Array:
    total = coefficients[-1]
    for a in coefficients[-2::-1]:
        total = total * x**2 + a
    return x * total


def _atan_of_quotient(n: Array, d: Array) -> Array:
    """atan(n / d) of n / d for d > 0, float32; XLA's own is not vectorised on a CPU."""
    size = jnp.abs(n)
    low, high = size < _EIGHTH * d, size * _EIGHTH > d
    # atan t = pi/4 + atan((t - 1) / (t + 1)) = pi/2 - atan(1 / t): one quotient is left
    above = jnp.where(low, size, jnp.where(high, -d, size - d))
    below = jnp.where(low, d, jnp.where(high, size, size + d))
    start = jnp.where(low, 0.0, jnp.where(high, math.pi / 2, math.pi / 4))
    return jnp.sign(n) * (start + _evaluated(_ATAN, above / below))


def _half_log_of_quotient(above: Array, below: Array, difference: Array) -> Array:
    """log(above / below) / 2 of positive float32, whose difference is given besides."""
    # 2^k below is within a factor of two of above; k = 0 where the logarithm is small
    bits = [jax.lax.bitcast_convert_type(a, jnp.int32) >> 23 for a in (above, below)]
    close = 4 * jnp.abs(difference) < above + below
    k = jnp.where(close, 0, bits[0] - bits[1])
    below = jax.lax.bitcast_convert_type((k + 127) << 23, jnp.float32) * below
    rest = jnp.where(close, difference, above - below)
    fraction = _evaluated(_ATANH, rest / (above + below))
    return k.astype(jnp.float32) * (math.log(2) / 2) + fraction


@jax.custom_jvp
def _atan_over_argument(re: Array, im: Array) -> tuple[Array, Array]:
    """h(t) = atan(sqrt t) / sqrt t of t = re + i im, |t| < 1: 1 - t/3 + t^2/5 - ...

    1 / h(t) is Borchardt's mean of a = 1 and b = sqrt(1 + t) (Carlson 1972, "An
    algorithm for computing logarithms and arctangents"): a becomes (a + b) / 2, then
    b becomes sqrt(a b), and h(t) = h(b^2 / a^2 - 1) / a all the way.  Each step takes
    the new t towards t / 4; a Pade approximant ends it.  Nothing but square roots of
    numbers in the right half plane: no branch, smooth for all |t| < 1.
    """
    # truncated by 2e-8 at q = 0.01 after 3 steps, 2e-17 after 6 (5e-12, 5e-18 at 0.2)
    steps = 6 if jnp.result_type(re, im) == jnp.float64 else 3
    b = _root((1 + re, im))
    a, b2_over_a = ((1 + b[0]) / 2, b[1] / 2), b
    for _ in range(steps - 1):
        b = _root(_times(a, b2_over_a))
        a, b2_over_a = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), b
    d = b2_over_a[0] - a[0], b2_over_a[1] - a[1]  # a times the last t
    aa, ad, dd = _times(a, a), _times(a, d), _times(d, d)
    above = [945 * u + 735 * v + 64 * w for u, v, w in zip(aa, ad, dd, strict=True)]
    below = [945 * u + 1050 * v + 225 * w for u, v, w in zip(aa, ad, dd, strict=True)]
    return _over(above, _times(a, below))


@_atan_over_argument.defjvp
def _(primals, tangents):
    h = _atan_over_argument(*primals)
    return h, _times(_slope(primals, h), tangents)


def _slope(t: tuple[Array, Array], h: tuple[Array, Array]) -> tuple[Array, Array]:
    """h'(t) = (1 / (1 + t) - h) / (2 t), and its series where that loses digits."""
    # the first term left out is below 1e-16 with 16 terms, 1e-8 with 8
    terms = 16 if jnp.result_type(*t) == jnp.float64 else 8
    small = t[0] ** 2 + t[1] ** 2 < 0.01
    series = 0.0, 0.0
    for n in range(terms, 0, -1):
        series = _times(series, t)
        series = series[0] + (-1) ** n * n / (2 * n + 1), series[1]
    # double where: the form that is not taken has finite gradients too
    t = jnp.where(small, 0.5, t[0]), jnp.where(small, 0, t[1])
    size2 = (1 + t[0]) ** 2 + t[1] ** 2
    closed = _over(((1 + t[0]) / size2 - h[0], -t[1] / size2 - h[1]), t)
    return (
        jnp.where(small, series[0], closed[0] / 2),
        jnp.where(small, series[1], closed[1] / 2),
    )


# Complex numbers as pairs of real ones, which cost less than XLA's own.


def _times(z, w) -> tuple[Array, Array]:
    return z[0] * w[0] - z[1] * w[1], z[0] * w[1] + z[1] * w[0]


def _over(z, w) -> tuple[Array, Array]:
    size2 = w[0] ** 2 + w[1] ** 2
    return (z[0] * w[0] + z[1] * w[1]) / size2, (z[1] * w[0] - z[0] * w[1]) / size2


def _root(z) -> tuple[Array, Array]:
    """The root in the right half plane of a number in the right half plane."""
    re = jnp.sqrt((jnp.sqrt(z[0] ** 2 + z[1] ** 2) + z[0]) / 2)
    return re, z[1] / (2 * re)
