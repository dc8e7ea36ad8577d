"""A lens: an SIE in an external shear."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax import shear as _shear
from lensjax import sie as _sie
from lensjax import units
from lensjax.shear import Shear
from lensjax.sie import CORE, SIE


class Lens(NamedTuple):
    """An SIE in an external shear, as the functions of this module take it.

    `jax.vmap` over many wants a shear for each: `without_shear` gives it.
    """

    sie: SIE
    shear: Shear = Shear(0.0, 0.0)


_of_position = units.convert(x="arcsec", y="arcsec", core="arcsec")


def without_shear(sie: SIE) -> Lens:
    """Lens of an SIE, or of arrays of them, with a shear of zero in the same shape."""
    theta_E = jnp.asarray(sie.theta_E)
    # of theta_E, so that it is spread over devices likewise; and two arrays, for one
    # buffer in two fields could not be donated
    return Lens(sie, Shear(0.0 * theta_E, 0.0 * theta_E))


@_of_position
def deflect(
    lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array]:
    """Deflection [arcsec] of SIE and shear at (x, y) [arcsec], any shape."""
    sie_x, sie_y = _sie.deflect(lens.sie, x, y, core)
    shear_x, shear_y = _shear.deflect(lens.shear, x, y)
    return sie_x + shear_x, sie_y + shear_y


@_of_position
def ray_shoot(
    lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array]:
    """Source-plane position beta = theta - alpha(theta) [arcsec] seen at (x, y)."""
    alpha_x, alpha_y = deflect(lens, x, y, core)
    return jnp.asarray(x) - alpha_x, jnp.asarray(y) - alpha_y


@_of_position
def convergence(lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Convergence at (x, y) [arcsec]; a shear adds none."""
    return _sie.convergence(lens.sie, x, y, core)


@_of_position
def potential(lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Lensing potential [arcsec^2] at (x, y) [arcsec]; its gradient is `deflect`."""
    return _sie.potential(lens.sie, x, y, core) + _shear.potential(lens.shear, x, y)


@units.convert(
    x="arcsec",
    y="arcsec",
    beta_x="arcsec",
    beta_y="arcsec",
    core="arcsec",
)
def fermat_potential(
    lens: Lens,
    x: ArrayLike,
    y: ArrayLike,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    core: float = CORE,
) -> Array:
    """Fermat potential |theta - beta|^2 / 2 - psi(theta) [arcsec^2]."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    geometric = ((x - beta_x) ** 2 + (y - beta_y) ** 2) / 2
    return geometric - potential(lens, x, y, core)


@_of_position
def jacobian(
    lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE
) -> tuple[Array, Array, Array]:
    """(d beta_x/dx, d beta_x/dy = d beta_y/dx, d beta_y/dy) at (x, y) [arcsec]."""
    kappa = convergence(lens, x, y, core)
    gamma1, gamma2 = _sie.shear_components(lens.sie, x, y, core)
    gamma1, gamma2 = gamma1 + lens.shear.g1, gamma2 + lens.shear.g2
    return 1 - kappa - gamma1, -gamma2, 1 - kappa + gamma1


@_of_position
def magnification(lens: Lens, x: ArrayLike, y: ArrayLike, core: float = CORE) -> Array:
    """Signed magnification 1 / det A at (x, y); infinite on critical curves."""
    xx, xy, yy = jacobian(lens, x, y, core)
    return 1 / (xx * yy - xy**2)
