"""Distances in a flat LCDM universe of matter and a cosmological constant."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lensjax import units

SPEED_OF_LIGHT = 299_792.458  # km/s
ARCSEC = np.pi / 648_000  # radian
KM_PER_MPC = 3.085677581491367e19  # IAU 2015
MPC_IN_LIGHT_DAYS = KM_PER_MPC / SPEED_OF_LIGHT / 86_400


class FlatLambdaCDM(NamedTuple):
    """Flat LCDM without radiation; the defaults are those of Schuldt et al. (2021)."""

    H0: ArrayLike = 72.0  # Hubble constant [km/s/Mpc]
    Om0: ArrayLike = 0.32  # matter density today in units of the critical density

    UNITS = ("km / (s Mpc)", "")


PAPER = FlatLambdaCDM()
ROUNDING = (
    1e-10  # a density so small, of curvature say, is none: LambdaCDM(72, .32, .68)
)


def from_astropy(cosmo: Any) -> FlatLambdaCDM:
    """The same cosmology as an astropy FlatLambdaCDM, for use inside jit.

    Raises ValueError where astropy's has curvature, radiation or neutrinos, which these
    distances leave out: they would differ without a word.
    """
    if isinstance(cosmo, FlatLambdaCDM):
        return units.plain(cosmo)
    classes = {one.__name__ for one in type(cosmo).__mro__}
    constant = "LambdaCDM" in classes or (
        "wCDM" in classes and abs(cosmo.w0 + 1) < ROUNDING
    )
    if not constant or abs(cosmo.Ok0) > ROUNDING:
        raise ValueError(f"{cosmo!r} is not a flat LCDM cosmology")
    if cosmo.Ogamma0 + cosmo.Onu0 > ROUNDING:
        raise ValueError(
            f"{cosmo.name or cosmo!r} has radiation (Tcmb0 = {cosmo.Tcmb0}), lensjax "
            "has none: pass FlatLambdaCDM(H0=cosmo.H0, Om0=cosmo.Om0, Tcmb0=0) to drop "
            "it"
        )
    return FlatLambdaCDM(float(cosmo.H0.to_value("km / (s Mpc)")), float(cosmo.Om0))


@lru_cache
def _gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def _floating(z: ArrayLike) -> Array:
    z = jnp.asarray(units.value(z, ""))  # a redshift in km is refused by astropy
    return z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(float)


def comoving_distance(cosmo: FlatLambdaCDM, z: ArrayLike) -> Array:
    """Line-of-sight comoving distance [Mpc] to redshift z >= 0, any shape.

    Gauss-Legendre in log(1 + z): better than 1e-10 for z < 20, and differentiable.
    `cosmo` may be an astropy cosmology (outside jit), see `from_astropy`.
    """
    cosmo = from_astropy(cosmo)
    z = _floating(z)
    nodes, weights = (jnp.asarray(a, z.dtype) for a in _gauss_legendre(32))
    log_range = jnp.log1p(z)
    scale = jnp.exp(jnp.tensordot(log_range, nodes, axes=0))  # 1 + z along the way
    integrand = scale / jnp.sqrt(cosmo.Om0 * (scale**3 - 1) + 1)
    return (
        SPEED_OF_LIGHT
        / cosmo.H0
        * log_range
        * jnp.tensordot(integrand, weights, axes=1)
    )


def angular_diameter_distance(
    cosmo: FlatLambdaCDM, z1: ArrayLike, z2: ArrayLike
) -> Array:
    """Angular diameter distance [Mpc] from z1 to z2; negative where z2 < z1."""
    z2 = _floating(z2)
    return (comoving_distance(cosmo, z2) - comoving_distance(cosmo, z1)) / (1 + z2)


def time_delay_distance(
    cosmo: FlatLambdaCDM, z_lens: ArrayLike, z_source: ArrayLike
) -> Array:
    """Time-delay distance (1 + z_lens) D_l D_s / D_ls [Mpc]; inf where D_ls is 0."""
    z_lens = _floating(z_lens)
    d_l = angular_diameter_distance(cosmo, 0.0, z_lens)
    d_s = angular_diameter_distance(cosmo, 0.0, z_source)
    d_ls = angular_diameter_distance(cosmo, z_lens, z_source)
    return (1 + z_lens) * d_l * d_s / d_ls


def einstein_radius(
    cosmo: FlatLambdaCDM, vdisp: ArrayLike, z_lens: ArrayLike, z_source: ArrayLike
) -> Array:
    """Einstein radius 4 pi (vdisp/c)^2 D_ls/D_s [arcsec] of an isothermal lens.

    vdisp is the velocity dispersion [km/s], or a Quantity.  Zero where the source is
    not behind the lens.  Schuldt et al. (2021), eq. 3, which takes the radius of the
    spherical lens for the theta_E of eq. 1 at any axis ratio.
    """
    vdisp = _floating(units.value(vdisp, "km/s"))
    d_ls = angular_diameter_distance(cosmo, z_lens, z_source)
    d_s = angular_diameter_distance(cosmo, 0.0, z_source)
    ratio = jnp.maximum(d_ls / d_s, 0)
    return 4 * np.pi / ARCSEC * (vdisp / SPEED_OF_LIGHT) ** 2 * ratio
