"""Light of galaxies: Sersic profiles, sums of Gaussians, and stamps of real ones."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from lensjax import units


class Sersic(NamedTuple):
    """A Sersic profile; scalars, `jax.vmap` for many."""

    flux: ArrayLike  # (band,) total [counts]
    radius: ArrayLike  # circularised half-light radius [arcsec]
    n: ArrayLike  # Sersic index, above 0.5
    ex: ArrayLike  # (1 - q^2) / (1 + q^2) cos 2 phi, q and phi of the light
    ey: ArrayLike  # (1 - q^2) / (1 + q^2) sin 2 phi
    x: ArrayLike = 0.0  # centre [arcsec]
    y: ArrayLike = 0.0

    UNITS = ("", "arcsec", "", "", "", "arcsec", "arcsec")


class MultiGaussian(NamedTuple):
    """A sum of K concentric Gaussians of one shape (Cappellari 2002)."""

    flux: ArrayLike  # (K, band) of each [counts]
    sigma: ArrayLike  # (K,) circularised [arcsec]
    ex: ArrayLike  # as of `Sersic`
    ey: ArrayLike
    x: ArrayLike = 0.0
    y: ArrayLike = 0.0

    UNITS = ("", "arcsec", "", "", "arcsec", "arcsec")


class Stamp(NamedTuple):
    """A galaxy as an image of it shows; its centre is the middle of the stamp."""

    image: Array  # (m, m, c) flux per stamp pixel [counts], c = 1 or band
    flux: Array  # (band,) factor for each band
    pixel_scale: float  # [arcsec]

    UNITS = ("", "", "arcsec")


_of_position = units.convert(source=units.RECORD, x="arcsec", y="arcsec")


@functools.singledispatch
def brightness(source: Any, x: ArrayLike, y: ArrayLike) -> Array:
    """Surface brightness [counts/arcsec^2] of a galaxy at (x, y) [arcsec].

    Parameters
    ----------
    source : Sersic, MultiGaussian or Stamp
        A record of your own joins in by ``@lensjax.light.brightness.register``.
    x, y : array
        Positions of any common shape; for a stamp from its middle, for the others on
        the sky or the source plane, where `source.x`, `source.y` is.

    Returns
    -------
    array
        Shape of x, and (band,).  Smooth in all of a profile's numbers, ex = ey = 0
        included.
    """
    raise TypeError(
        f"{type(source).__name__} has no surface brightness: give a Sersic, a "
        "MultiGaussian or a Stamp, or register a function for it with "
        "lensjax.light.brightness.register"
    )


@brightness.register
def _(source: Sersic, x: ArrayLike, y: ArrayLike) -> Array:
    return _times(*factored(source, x, y))


@brightness.register
def _(source: MultiGaussian, x: ArrayLike, y: ArrayLike) -> Array:
    r2 = radius_squared(source, x, y)
    source = units.plain(source)
    sigma2 = jnp.asarray(source.sigma) ** 2
    shape = (1,) * r2.ndim + sigma2.shape
    each = jnp.exp(-r2[..., None] / (2 * sigma2).reshape(shape))
    return jnp.tensordot(each, source.flux / (2 * jnp.pi * sigma2)[:, None], 1)


@brightness.register
def _(source: Stamp, x: ArrayLike, y: ArrayLike) -> Array:
    return _times(*factored(source, x, y))


@_of_position
def factored(source: Any, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """`brightness` as a pattern (..., c), c = 1 or band, and factors (band,) for it.

    What looks alike in all bands need be blurred and traced once only.
    """
    if isinstance(source, Stamp):
        return surface_brightness(source, x, y), jnp.atleast_1d(source.flux)
    if isinstance(source, Sersic):
        radius = jnp.asarray(source.radius)
        profile = _sersic(radius_squared(source, x, y), radius, source.n, SOFTENING)
        return profile[..., None], jnp.atleast_1d(source.flux)
    pattern = brightness(source, x, y)
    return pattern, jnp.ones(pattern.shape[-1], pattern.dtype)


def _times(pattern: Array, flux: Array) -> Array:
    return pattern * flux.reshape((1,) * (pattern.ndim - 1) + flux.shape)


@_of_position
def radius_squared(source: Sersic | MultiGaussian, x: ArrayLike, y: ArrayLike) -> Array:
    """Circularised radius squared q a^2 + b^2 / q [arcsec^2] at (x, y) [arcsec].

    a and b are along the major and the minor axis.  By components of the ellipticity
    there is neither angle nor square root of |e|, and nothing is singular at e = 0.
    """
    dx, dy = jnp.asarray(x) - source.x, jnp.asarray(y) - source.y
    ex, ey = jnp.asarray(source.ex), jnp.asarray(source.ey)
    stretched = dx**2 + dy**2 - ex * (dx**2 - dy**2) - 2 * ey * dx * dy
    return stretched / jnp.sqrt(1 - ex**2 - ey**2)


SOFTENING = 0.02
"""[arcsec] over which the cusp of a Sersic profile is softened."""


@units.convert(
    x="arcsec", y="arcsec", radius="arcsec", n="", q="", phi="rad", softening="arcsec"
)
def sersic(
    x: ArrayLike,
    y: ArrayLike,
    radius: ArrayLike,
    n: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
    softening: float = SOFTENING,
) -> Array:
    """Surface brightness of a Sersic profile of unit total flux [arcsec^-2].

    (x, y) from its centre and `radius`, the circularised half-light radius, in arcsec;
    index n > 0.5; axis ratio q; major axis at phi [rad from +x].  The cusp is softened
    over `softening` [arcsec], r^2 becoming r^2 + softening^2, and the total is one all
    the same; half of it lies within `radius` where that is large beside the softening.
    q and phi are singular coordinates at q = 1, where phi has no meaning: for gradients
    take `Sersic` and `brightness`.
    """
    q = jnp.asarray(q)
    e = (1 - q**2) / (1 + q**2)
    shape = Sersic(1.0, radius, n, e * jnp.cos(2 * phi), e * jnp.sin(2 * phi))
    return _sersic(radius_squared(shape, x, y), jnp.asarray(radius), n, softening)


def _sersic(r2: Array, radius: Array, n: ArrayLike, softening: float) -> Array:
    """Sersic profile at a circularised radius squared; b_n: Ciotti & Bertin (1999)."""
    n = jnp.asarray(n)
    b = 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2)
    edge = b * (softening / radius) ** (1 / n)  # b (r / radius)^(1/n) at the centre
    # the integral over all radii, from the softened centre out
    log_total = jnp.log(2 * jnp.pi * n) - 2 * n * jnp.log(b)
    log_total = log_total + _log_upper_gamma(2 * n, edge)
    exponent = b * ((r2 + softening**2) / radius**2) ** (1 / (2 * n))
    return jnp.exp(-exponent - log_total) / radius**2


def _log_upper_gamma(a: Array, t: Array) -> Array:
    """Logarithm of the incomplete gamma function from t up, for 1 <= a <= 25.

    JAX's gammaincc has no second derivative in a.  Below a + 1 by the series of the
    lower one (DLMF 8.7.1), above by Legendre's continued fraction (8.9.2): 1e-13 with
    as many terms as here.
    """
    low = t < a + 1
    # double where: each form stays finite where the other is taken
    s = jnp.where(low, t, a)
    k = jnp.arange(1, 65, dtype=s.dtype).reshape((-1,) + (1,) * s.ndim)
    series = 1 + jnp.cumprod(s[None] / (a[None] + k), axis=0).sum(0)
    power = a * jnp.log(jnp.where(s > 0, s, 1)) - s - gammaln(a + 1)
    lower = jnp.where(s > 0, jnp.exp(power) * series, 0)
    s = jnp.where(low, a + 1, t)
    levels = jnp.arange(24, 0, -1, dtype=s.dtype)

    def level(d, m):
        return s + 2 * m - 1 - a - m * (m - a) / d, None

    fraction, _ = jax.lax.scan(level, s + 2 * 24 + 1 - a, levels)
    return jnp.where(
        low, gammaln(a) + jnp.log1p(-lower), a * jnp.log(s) - s - jnp.log(fraction)
    )


@_of_position
def surface_brightness(source: Stamp, x: Array, y: Array) -> Array:
    """Brightness [counts/arcsec^2] of the stamp at (x, y) [arcsec] from its middle.

    (...) -> (..., c), bilinear between pixel centres and zero beyond the stamp.
    """
    m = source.image.shape[0]
    edged = jnp.pad(source.image, ((1, 1), (1, 1), (0, 0)))  # zero beyond the stamp
    pixels = edged.reshape((m + 2) ** 2, -1)

    column = jnp.clip(x / source.pixel_scale + (m + 1) / 2, 0, m + 1)
    row = jnp.clip(y / source.pixel_scale + (m + 1) / 2, 0, m + 1)
    left, low = (jnp.minimum(jnp.floor(v), m) for v in (column, row))
    right, up = column - left, row - low
    corner = low.astype(int) * (m + 2) + left.astype(int)

    # a loop over the two rows: XLA does not fuse across it, and would otherwise trace
    # each ray anew for every pixel and band that it reads
    def add(total, one):
        at = corner + one * (m + 2)
        west = pixels.at[at].get(mode="promise_in_bounds")
        east = pixels.at[at + 1].get(mode="promise_in_bounds")
        between = _weighted(1 - right, west) + _weighted(right, east)
        share = jnp.where(one == 0, 1 - up, up)
        return total + _weighted(share, between), None

    nothing = jnp.zeros((*x.shape, pixels.shape[1]), pixels.dtype)
    total, _ = jax.lax.scan(add, nothing, jnp.arange(2, dtype=corner.dtype))
    return total / source.pixel_scale**2


@jax.custom_jvp
def _weighted(weight: Array, bands: Array) -> Array:
    """One weight (...) times every band of `bands` (..., c).

    JAX's own derivative in the weight is a sum over the last axis.  Of several float32
    cotangents at once XLA's CPU backend makes it wrongly (jaxlib 0.10.2, not 0.10.1):
    -(p * w).sum(-1) with p (n, c) and w (B, n, c), B n > 2^15, becomes a fusion of
    YNNPACK whose parallel tasks all read w[0].  Bands added one by one are no such sum.
    """
    return weight[..., None] * bands


@_weighted.defjvp
def _(primals, tangents):
    (weight, bands), (slope, change) = primals, tangents
    turned = [slope * bands[..., k] for k in range(bands.shape[-1])]
    return _weighted(weight, bands), jnp.stack(turned, -1) + _weighted(weight, change)
