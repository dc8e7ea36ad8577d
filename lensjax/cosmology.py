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


@units.record
class FlatLambdaCDM(NamedTuple):
    """Flat LCDM without radiation; the defaults are those of Schuldt et al. (2021)."""

    H0: ArrayLike = 72.0  # Hubble constant [km/s/Mpc]
    Om0: ArrayLike = 0.32  # matter density today in units of the critical density

    UNITS = ("km / (s Mpc)", "")


PAPER = FlatLambdaCDM()
ROUNDING = 1e-7
"""By how much astropy's expansion rate may differ: single precision leaves as much.

`LambdaCDM(72, 0.32, 0.68)` has a curvature of 1e-16, and is flat.
"""


def from_astropy(cosmo: Any) -> FlatLambdaCDM:
    """The same cosmology as an astropy FlatLambdaCDM, for use inside jit.

    Raises ValueError where astropy's has curvature, radiation, neutrinos or another
    dark energy, which these distances leave out: they would differ without a word.  Its
    own expansion rate is asked, so that w0 = -1 is a cosmological constant.
    """
    if isinstance(cosmo, FlatLambdaCDM):
        return cosmo
    if not hasattr(cosmo, "efunc"):
        raise ValueError(f"{cosmo!r} is not a cosmology of lensjax or astropy")
    z = np.geomspace(1, 21, 16) - 1
    dark = np.asarray(cosmo.de_density_scale(z))
    if not (abs(cosmo.Ok0) <= ROUNDING and np.max(abs(dark - 1)) <= ROUNDING):
        raise ValueError(f"{cosmo!r} is not a flat LCDM cosmology")
    rate = np.sqrt(cosmo.Om0 * ((1 + z) ** 3 - 1) + 1)
    if not np.max(abs(cosmo.efunc(z) / rate - 1)) <= ROUNDING:
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
    z = jnp.asarray(z)
    return z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(float)


@units.convert(z="")
def comoving_distance(cosmo: FlatLambdaCDM, z: ArrayLike) -> Array:
    """Line-of-sight comoving distance [Mpc] to redshift z >= 0, any shape.

    Gauss-Legendre in log(1 + z): better than 1e-10 for z < 20, and differentiable.
    `cosmo` may be an astropy cosmology (outside jit), see `from_astropy`.
    """
    cosmo, z = from_astropy(cosmo), _floating(z)
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


@units.convert(z1="", z2="")
def angular_diameter_distance(
    cosmo: FlatLambdaCDM, z1: ArrayLike, z2: ArrayLike
) -> Array:
    """Angular diameter distance [Mpc] from z1 to z2; negative where z2 < z1."""
    cosmo, z2 = from_astropy(cosmo), _floating(z2)
    return (comoving_distance(cosmo, z2) - comoving_distance(cosmo, z1)) / (1 + z2)


@units.convert(z_lens="", z_source="")
def time_delay_distance(
    cosmo: FlatLambdaCDM, z_lens: ArrayLike, z_source: ArrayLike
) -> Array:
    """Time-delay distance (1 + z_lens) D_l D_s / D_ls [Mpc]; inf where D_ls is 0."""
    cosmo, z_lens = from_astropy(cosmo), _floating(z_lens)
    d_l = angular_diameter_distance(cosmo, 0.0, z_lens)
    d_s = angular_diameter_distance(cosmo, 0.0, z_source)
    d_ls = angular_diameter_distance(cosmo, z_lens, z_source)
    return (1 + z_lens) * d_l * d_s / d_ls


@units.convert(vdisp="km/s", z_lens="", z_source="")
def einstein_radius(
    cosmo: FlatLambdaCDM, vdisp: ArrayLike, z_lens: ArrayLike, z_source: ArrayLike
) -> Array:
    """Einstein radius 4 pi (vdisp/c)^2 D_ls/D_s [arcsec] of an isothermal lens.

    vdisp is the velocity dispersion [km/s], or a Quantity.  Zero where the source is
    not behind the lens.  Schuldt et al. (2021), eq. 3, which takes the radius of the
    spherical lens for the theta_E of eq. 1 at any axis ratio.
    """
    cosmo, vdisp = from_astropy(cosmo), _floating(vdisp)
    d_ls = angular_diameter_distance(cosmo, z_lens, z_source)
    d_s = angular_diameter_distance(cosmo, 0.0, z_source)
    ratio = jnp.maximum(d_ls / d_s, 0)
    return 4 * np.pi / ARCSEC * (vdisp / SPEED_OF_LIGHT) ** 2 * ratio
