"""Templates of arcs held against an image: what the lens equation itself says.

A network would have to learn from a million images how the places of arcs tell theta_E
and the source's place.  The gain of each template of a round lens, over theta_E and the
source's place behind it, tells it from the first.  Templates stand on rings at
`ANGLES` equal angles, so that the symmetries of an image only change their order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.learning import symmetries

THETA_E = tuple(np.geomspace(0.35, 3.0, 14).tolist())  # [arcsec]
RADII = (0.12, 0.3, 0.5, 0.75)  # of the source's place [theta_E]
ANGLES = 16
SPOT = 0.16  # sigma of the source [arcsec]
SEEING = 0.28  # sigma of the blur [arcsec]
RAYS = 3  # along a pixel
COUNT = len(THETA_E) * (1 + len(RADII) * ANGLES)


def gains(rest: Array, x: Array, y: Array, pixel_scale: float) -> Array:
    """Log of what templates (COUNT,) take off chi2 of maps (n, n, map) [noise].

    rest: what the lens's light leaves; x, y: its centre from the middle [pixel].  Each
    map has its own flux, none below zero.
    """
    n = rest.shape[0]
    row, column = (jnp.round(v).astype(jnp.int32) for v in (y, x))
    reach = n // 8
    row, column = (jnp.clip(v, -reach, reach) for v in (row, column))
    framed = jnp.pad(rest, ((reach, reach), (reach, reach), (0, 0)))
    start = (reach + row, reach + column, jnp.zeros_like(row))
    centred = jax.lax.dynamic_slice(framed, start, rest.shape)
    shapes = jnp.asarray(templates(n, pixel_scale), rest.dtype)
    flux = shapes @ centred.reshape(n * n, -1)
    return jnp.log1p((jnp.maximum(flux, 0) ** 2).sum(-1))


@functools.cache
def templates(n: int, pixel_scale: float) -> np.ndarray:
    """Images (COUNT, n n) of a round spot behind a singular isothermal sphere.

    Their squares sum to one.  The first of each theta_E is the spot in the middle, then
    rings of `ANGLES` follow from the inside out.
    """
    side = n * RAYS
    at = (np.arange(side) - (side - 1) / 2) * pixel_scale / RAYS
    x, y = np.meshgrid(at, at)
    radius = np.maximum(np.hypot(x, y), 1e-6)
    frequency = np.fft.fftfreq(side, pixel_scale / RAYS)
    k2 = frequency[:, None] ** 2 + frequency[: side // 2 + 1][None] ** 2
    blur = np.exp(-2 * np.pi**2 * k2 * SEEING**2)
    made = []
    for theta_E in THETA_E:
        u, v = x * (1 - theta_E / radius), y * (1 - theta_E / radius)
        for ring, angle in _places():
            beta_x = theta_E * ring * np.cos(angle)
            beta_y = theta_E * ring * np.sin(angle)
            spot = np.exp(-((u - beta_x) ** 2 + (v - beta_y) ** 2) / (2 * SPOT**2))
            seen = np.fft.irfft2(np.fft.rfft2(spot) * blur, s=(side, side))
            binned = seen.reshape(n, RAYS, n, RAYS).mean((1, 3)).ravel()
            made.append(binned / np.sqrt((binned**2).sum()))
    return np.array(made, np.float32)


def _places() -> list[tuple[float, float]]:
    turns = 2 * np.pi * np.arange(ANGLES) / ANGLES
    return [(0.0, 0.0)] + [(ring, angle) for ring in RADII for angle in turns]


@functools.cache
def orders() -> np.ndarray:
    """Order (8, COUNT) of an image's gains after each of the symmetries."""
    each = 1 + len(RADII) * ANGLES
    k, half = np.arange(ANGLES), ANGLES // 2
    made = []
    for number in range(symmetries.COUNT):
        # where what stands at an angle afterwards stood before
        angle = k
        if number & 4:
            angle = (ANGLES // 4 - angle) % ANGLES
        if number & 2:
            angle = -angle % ANGLES
        if number & 1:
            angle = (half - angle) % ANGLES
        rings = [1 + ring * ANGLES + angle for ring in range(len(RADII))]
        one = np.concatenate([[0], *rings])
        made.append(np.concatenate([t * each + one for t in range(len(THETA_E))]))
    return np.stack(made)
