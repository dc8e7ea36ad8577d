"""Light of a lens galaxy in an image: Gaussians that share an ellipse, band by band.

The fluxes of the Gaussians and the sky are linear and solved for (Cappellari 2002 has
the sum of Gaussians); the ellipse, one for all bands, is fitted by Gauss-Newton steps.
What stands out of it, such as arcs and neighbours, is given less weight.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.fft import next_fast_len

from lensjax.observation import Observation

NUMBER = 11  # Gaussians
WIDEST = 3.0  # [arcsec]
RIDGE = 1e-3  # of each column's norm: what Gaussians do not differ by stays small
SHARE = 0.03  # of its light that a real galaxy is off the Gaussians
OUTLIER = 3.0  # sigma from which a pixel has less weight
PASSES, STEPS = 4, 2  # of the weights, and of the ellipse for each


class Ellipse(NamedTuple):
    """Centre and shape of the light; ellipticity as in `lensjax.light`."""

    x: Array  # [arcsec]
    y: Array
    ex: Array
    ey: Array


class LensLight(NamedTuple):
    """A fitted lens galaxy."""

    ellipse: Ellipse
    flux: Array  # (K, band) of each Gaussian [counts]
    sky: Array  # (band,) [counts per pixel]
    image: Array  # (n, n, band) its light without the sky [counts]


def widths(pixel_scale: float) -> np.ndarray:
    """Widths (K,) [arcsec] of the Gaussians for pixels of a scale [arcsec]."""
    return np.geomspace(max(0.03, 0.36 * pixel_scale), WIDEST, NUMBER)


def gaussians(ellipse: Ellipse, psf: Array, n: int, pixel_scale: float) -> Array:
    """Images (K, n, n, band) of unit flux of the Gaussians, seen through a PSF.

    By their transforms, which are Gaussians: exact where the pixels sample the PSF.
    """
    each, moved = _transforms(ellipse, psf, n, pixel_scale)
    images = jnp.fft.irfft2(each[:, None] * moved[None])[..., :n, :n]
    return jnp.moveaxis(images, 1, -1)


def galaxy(
    ellipse: Ellipse, flux: Array, psf: Array, n: int, pixel_scale: float
) -> Array:
    """Image (n, n, band) of the Gaussians of `flux` (K, band) together, see above."""
    each, moved = _transforms(ellipse, psf, n, pixel_scale)
    together = jnp.einsum("kb,kuv->buv", flux.astype(each.dtype), each)
    return jnp.moveaxis(jnp.fft.irfft2(together * moved)[..., :n, :n], 0, -1)


def _transforms(ellipse, psf, n, pixel_scale) -> tuple[Array, Array]:
    """Transforms (K, m, ...) of the Gaussians, and (band, m, ...) of PSF and place."""
    sigma = jnp.asarray(widths(pixel_scale), psf.dtype)
    k = psf.shape[0]
    # what a wide Gaussian has beyond the image must not come round
    m = next_fast_len(n + max(k // 2, int(2.5 * WIDEST / pixel_scale)), real=True)
    m += m % 2
    padded = jnp.zeros((m, m, psf.shape[-1]), psf.dtype).at[:k, :k].set(psf)
    padded = jnp.roll(padded, (-(k // 2), -(k // 2)), (0, 1))
    transfer = jnp.fft.rfft2(jnp.moveaxis(padded, -1, 0))
    u = jnp.asarray(np.fft.rfftfreq(m, pixel_scale)[None, :], psf.dtype)
    v = jnp.asarray(np.fft.fftfreq(m, pixel_scale)[:, None], psf.dtype)
    x, y, ex, ey = ellipse
    stretched = (1 + ex) * u**2 + (1 - ex) * v**2 + 2 * ey * u * v
    stretched = stretched / jnp.sqrt(1 - ex**2 - ey**2)
    each = jnp.exp(-2 * jnp.pi**2 * sigma[:, None, None] ** 2 * stretched[None])
    middle = (n - 1) / 2 * pixel_scale
    angle = 2 * jnp.pi * (u * (x + middle) + v * (y + middle))
    moved = jax.lax.complex(jnp.cos(angle), -jnp.sin(angle))
    return each.astype(transfer.dtype), moved[None] * transfer


def fit(observation: Observation, start: Ellipse, passes: int = PASSES) -> LensLight:
    """The lens galaxy's light in an observation; pure, for jit and vmap.

    start: an ellipse within a PSF's width of the galaxy, `start_of` finds one.
    """
    image, variance = (jnp.asarray(a) for a in observation[:2])
    psf, scale = jnp.asarray(observation.psf), observation.pixel_scale
    n, _, bands = image.shape

    def rows(images):
        return jnp.moveaxis(images, -1, 0).reshape(bands, n * n)

    data, floor = rows(image), rows(variance)
    good = rows(~jnp.asarray(observation.mask))

    def light_of(vector, flux):
        return rows(galaxy(Ellipse(*vector), flux, psf, n, scale))

    def solved(vector, root):
        """Coefficients (band, K + 1), an orthonormal basis of the columns, residual."""
        images = gaussians(Ellipse(*vector), psf, n, scale)
        columns = jnp.moveaxis(images, -1, 0).reshape(bands, NUMBER, n * n)
        columns = jnp.concatenate([columns, jnp.ones_like(columns[:, :1])], 1)
        a = jnp.swapaxes(columns * root[:, None], 1, 2)
        size = jnp.sqrt((a**2).sum(1, keepdims=True)) + 1e-30
        ridge = jnp.broadcast_to(
            RIDGE * jnp.eye(NUMBER + 1, dtype=a.dtype), (bands, NUMBER + 1, NUMBER + 1)
        )
        q, r = jnp.linalg.qr(jnp.concatenate([a / size, ridge], 1))
        q = q[:, : n * n]
        right = jnp.einsum("bpk,bp->bk", q, data * root)
        found = jax.scipy.linalg.solve_triangular(r, right[..., None])[..., 0]
        found = found / size[:, 0]
        return found, q, jnp.einsum("bkp,bk->bp", columns, found)

    def step(vector, root):
        found, q, model = solved(vector, root)
        flux = found[:, :NUMBER].T
        slopes = jax.jacfwd(lambda v: light_of(v, flux))(vector) * root[..., None]
        slopes = slopes - jnp.einsum(
            "bpk,bki->bpi", q, jnp.einsum("bpk,bpi->bki", q, slopes)
        )
        rest = (data - model) * root
        normal = jnp.einsum("bpi,bpj->ij", slopes, slopes)
        normal = normal + jnp.diag(1e-3 * jnp.diag(normal) + 1e-6)
        change = jnp.linalg.solve(normal, jnp.einsum("bpi,bp->i", slopes, rest))
        limit = jnp.asarray([scale, scale, 0.15, 0.15], data.dtype)
        vector = vector + jnp.clip(change, -limit, limit)
        e = jnp.hypot(vector[2], vector[3])
        return vector.at[2:].multiply(jnp.minimum(1, 0.8 / (e + 1e-9)))

    def weighted(vector, root):
        found, _, model = solved(vector, root)
        light = model - found[:, -1:]
        total = floor + (SHARE * light) ** 2
        off = (data - model) / jnp.sqrt(total)
        # light that is too much is an arc's or a neighbour's more often than too little
        beyond = jnp.where(off > 0, off / OUTLIER, off / (2 * OUTLIER))
        return jnp.where(good, 1 / jnp.sqrt(total * (1 + beyond**2)), 0)

    def passed(carry, _):
        vector, root = carry
        for _ in range(STEPS):
            vector = step(vector, root)
        return (vector, weighted(vector, root)), None

    vector = jnp.stack([jnp.asarray(a, data.dtype) for a in start])
    root = jnp.where(good, 1 / jnp.sqrt(floor), 0)
    root = weighted(vector, root)
    (vector, root), _ = jax.lax.scan(passed, (vector, root), length=passes)
    found, *_ = solved(vector, root)
    ellipse, flux = Ellipse(*vector), found[:, :NUMBER].T
    light = galaxy(ellipse, flux, psf, n, scale)
    return LensLight(ellipse, flux, found[:, -1], light)


def start_of(observation: Observation, reach: float = 1.0) -> Ellipse:
    """A round start at the brightest place within `reach` [arcsec] of the middle."""
    weight = jnp.where(observation.mask, 0, 1 / observation.variance)
    light = (observation.image * weight).sum(-1) / jnp.maximum(weight.sum(-1), 1e-30)
    n = light.shape[0]
    for axis in (0, 1):  # 3 x 3 pixels together: one hot pixel is no galaxy
        light = light + jnp.roll(light, 1, axis) + jnp.roll(light, -1, axis)
    place = (jnp.arange(n, dtype=light.dtype) - (n - 1) / 2) * observation.pixel_scale
    far = jnp.hypot(place[None], place[:, None]) > reach
    k = jnp.argmax(jnp.where(far, -jnp.inf, light))
    return Ellipse(place[k % n], place[k // n], 0 * place[0], 0 * place[0])
