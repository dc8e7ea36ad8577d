"""External shear: psi = g1 (x^2 - y^2) / 2 + g2 x y about the origin of the sky."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax import units


@units.record
class Shear(NamedTuple):
    """A constant external shear, |g| < 1."""

    g1: ArrayLike  # stretches along +x where positive
    g2: ArrayLike  # stretches along the diagonal y = x where positive

    UNITS = ("", "")


_of_position = units.convert(x="arcsec", y="arcsec")


@_of_position
def deflect(shear: Shear, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Deflection (g1 x + g2 y, g2 x - g1 y) [arcsec] at (x, y) [arcsec]."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    return shear.g1 * x + shear.g2 * y, shear.g2 * x - shear.g1 * y


@_of_position
def potential(shear: Shear, x: ArrayLike, y: ArrayLike) -> Array:
    """Lensing potential [arcsec^2] at (x, y) [arcsec], zero at the origin."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    return shear.g1 * (x**2 - y**2) / 2 + shear.g2 * x * y
