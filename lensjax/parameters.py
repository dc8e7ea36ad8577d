"""What is predicted or fitted: names, units, labels, ranges and order, in one place.

A *vector* holds the numbers of one lens along its last axis, in the order of a space:

    WITHOUT_SHEAR   x, y, ex, ey, theta_E           as Schuldt et al. (2021) have it
    WITH_SHEAR      x, y, ex, ey, theta_E, g1, g2

A space is a tuple of `Parameter`, so that a fit appends its own:
``WITH_SHEAR + (SOURCE_X, SOURCE_Y)``.  `unconstrained` maps a vector onto all of R^n,
where optimisers and samplers may step freely, and `constrained` back.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE

REAL = "real"  # any number
POSITIVE = "positive"  # above zero
DISK = "disk"  # with the next parameter, or the one before, a point of the unit disk


class Parameter(NamedTuple):
    """One number of a vector."""

    name: str
    column: str  # in tables, ending in the unit where there is one
    unit: str  # astropy's name of it; "" for a pure number
    label: str  # for figures, in matplotlib's mathematics
    meaning: str
    range: str = REAL  # or POSITIVE, or DISK


X = Parameter(
    "x",
    "center_x_arcsec",
    "arcsec",
    "$x$",
    "lens centre from the centre of the image, along +x",
)
Y = Parameter(
    "y",
    "center_y_arcsec",
    "arcsec",
    "$y$",
    "lens centre from the centre of the image, along +y",
)
EX = Parameter("ex", "ex", "", "$e_x$", "(1 - q^2) / (1 + q^2) cos 2 phi", DISK)
EY = Parameter("ey", "ey", "", "$e_y$", "(1 - q^2) / (1 + q^2) sin 2 phi", DISK)
THETA_E = Parameter(
    "theta_E",
    "theta_E_arcsec",
    "arcsec",
    r"$\theta_\mathrm{E}$",
    "Einstein radius of kappa = theta_E / ((1 + q) r)",
    POSITIVE,
)
G1 = Parameter(
    "g1", "shear_g1", "", r"$\gamma_1$", "external shear, along +x where positive", DISK
)
G2 = Parameter("g2", "shear_g2", "", r"$\gamma_2$", "external shear, along y = x", DISK)
SOURCE_X = Parameter(
    "source_x",
    "beta_x_arcsec",
    "arcsec",
    r"$\beta_x$",
    "source centre, unlensed, along +x",
)
SOURCE_Y = Parameter(
    "source_y",
    "beta_y_arcsec",
    "arcsec",
    r"$\beta_y$",
    "source centre, unlensed, along +y",
)

Space = tuple[Parameter, ...]

WITHOUT_SHEAR: Space = (X, Y, EX, EY, THETA_E)
"""The five of an SIE, in the paper's order: what the paper's network predicts."""

SOURCE: Space = (SOURCE_X, SOURCE_Y)
"""Where the source is, behind a lens."""

WITH_SHEAR: Space = (*WITHOUT_SHEAR, G1, G2)
"""An SIE in an external shear."""


def names(space: Space = WITHOUT_SHEAR) -> tuple[str, ...]:
    """Names of the numbers of a vector, in its order."""
    return tuple(p.name for p in space)


def columns(space: Space = WITHOUT_SHEAR) -> tuple[str, ...]:
    """Columns of the numbers of a vector in tables, in its order."""
    return tuple(p.column for p in space)


def axis_label(parameter: Parameter) -> str:
    """A parameter's label with its unit, for the axis of a figure."""
    return (
        f"{parameter.label} [{parameter.unit}]" if parameter.unit else parameter.label
    )


def space_of(n: int) -> Space:
    """The space of a lens's vector of n numbers: 5, or 7 with shear."""
    for space in (WITHOUT_SHEAR, WITH_SHEAR):
        if len(space) == n:
            return space
    raise ValueError(
        f"a vector of {n} numbers is no lens: give 5 ({', '.join(names())}) or 7 "
        "(g1 and g2 besides)"
    )


def to_vector(lens: Lens | SIE, space: Space = WITHOUT_SHEAR) -> Array:
    """Numbers (..., len(space)) of a lens whose fields are (...); inverse of `to_lens`.

    ValueError where the space has parameters that are not a lens's.
    """
    mass, shear = lens if isinstance(lens, Lens) else (lens, Shear(0.0, 0.0))
    known = {**mass._asdict(), **shear._asdict()}
    if other := [p.name for p in space if p.name not in known]:
        raise ValueError(f"{', '.join(other)} is no parameter of a lens: leave it out")
    values = jnp.broadcast_arrays(*(1.0 * jnp.asarray(known[p.name]) for p in space))
    return jnp.stack(values, -1)


def to_lens(vector: ArrayLike, space: Space | None = None) -> Lens:
    """The lens of a vector (..., n), its fields (...).

    Without a `space` n says which: 5 without shear, 7 with it.  What is in the space
    beside the lens is left out; a space without shear gives a shear of zero.
    """
    vector = jnp.asarray(vector)
    space = space_of(vector.shape[-1]) if space is None else space
    at = {p.name: vector[..., k] for k, p in enumerate(space)}
    zero = jnp.zeros_like(vector[..., 0])
    mass = SIE(**{name: at[name] for name in SIE._fields})
    # each field an array of its own: one buffer cannot be donated twice
    return Lens(mass, Shear(at.get("g1", zero), at.get("g2", jnp.zeros_like(zero))))


def constrained(u: ArrayLike, space: Space | None = None) -> Array:
    """The vector (..., n) that unconstrained numbers u (..., n) stand for.

    Positive ones are exp(u); the two of a disk are u / sqrt(1 + |u|^2), which is smooth
    at the centre, where a position angle would not be.
    """
    u = jnp.asarray(u)
    space = space_of(u.shape[-1]) if space is None else space
    out = [u[..., k] for k in range(len(space))]
    for k, p in enumerate(space):
        if p.range == POSITIVE:
            out[k] = jnp.exp(out[k])
    for a, b in _pairs(space):
        out[a], out[b] = into_disk(out[a], out[b])
    return jnp.stack(out, -1)


def unconstrained(vector: ArrayLike, space: Space | None = None) -> Array:
    """The inverse of `constrained`; nan or infinite on and beyond a range's edge."""
    vector = jnp.asarray(vector)
    space = space_of(vector.shape[-1]) if space is None else space
    out = [vector[..., k] for k in range(len(space))]
    for k, p in enumerate(space):
        if p.range == POSITIVE:
            out[k] = jnp.log(out[k])
    for a, b in _pairs(space):
        out[a], out[b] = out_of_disk(out[a], out[b])
    return jnp.stack(out, -1)


def into_disk(a: Array, b: Array) -> tuple[Array, Array]:
    """The point of the unit disk that a point of the plane stands for."""
    scale = 1 / jnp.sqrt(1 + a**2 + b**2)
    return a * scale, b * scale


def out_of_disk(a: Array, b: Array) -> tuple[Array, Array]:
    """The inverse of `into_disk`; nan on and beyond the edge."""
    scale = 1 / jnp.sqrt(1 - a**2 - b**2)
    return a * scale, b * scale


def log_jacobian(u: ArrayLike, space: Space | None = None) -> Array:
    """Return ln |det d constrained / d u| (...) at unconstrained numbers u (..., n).

    To be added to a log density of the vector where u is sampled.
    """
    u = jnp.asarray(u)
    space = space_of(u.shape[-1]) if space is None else space
    total = jnp.zeros_like(u[..., 0])
    for k, p in enumerate(space):
        if p.range == POSITIVE:
            total = total + u[..., k]
    for a, b in _pairs(space):
        # (1 + r^2)^(-3/2) along the radius times (1 + r^2)^(-1/2) across it
        total = total - 2 * jnp.log1p(u[..., a] ** 2 + u[..., b] ** 2)
    return total


def _pairs(space: Space) -> list[tuple[int, int]]:
    """Places of the two parameters of each disk."""
    places = [k for k, p in enumerate(space) if p.range == DISK]
    pairs = list(zip(places[::2], places[1::2], strict=False))
    if len(places) % 2 or any(b != a + 1 for a, b in pairs):
        raise ValueError(
            f"{', '.join(names(space))}: parameters of a disk must stand in pairs"
        )
    return pairs
