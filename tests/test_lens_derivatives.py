"""Derivatives of a lens's functions: first, second, and of many cotangents at once.

Central differences in float64 are the truth, at generic places and where the usual
forms are singular: round lenses, the lens's centre.  XLA's CPU backend has added up
batches of float32 cotangents wrongly, and nothing but such tests showed it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import cosmology, images, shear, sie
from lensjax import lens as lenses
from lensjax.cosmology import FlatLambdaCDM
from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE

PARAMETERS = (
    "theta_E",
    "ex",
    "ey",
    "x0",
    "y0",
    "g1",
    "g2",
    "x",
    "y",
    "bx",
    "by",
    "core",
)


def lens_functions(p):
    """All functions of a lens and a place, as columns; p is one of `PARAMETERS`."""
    ellipse, g = SIE(*(p[i] for i in range(5))), Shear(p[5], p[6])
    lens, (x, y, beta_x, beta_y, core) = Lens(ellipse, g), (p[i] for i in range(7, 12))
    return {
        "sie.deflect": sie.deflect(ellipse, x, y, core),
        "sie.direction": sie.direction(ellipse, x, y, core),
        "sie.deflect_along": sie.deflect_along(ellipse, jnp.cos(x), jnp.sin(x)),
        "sie.reduced_ellipticity": sie.reduced_ellipticity(ellipse),
        "sie.potential": sie.potential(ellipse, x, y, core),
        "sie.shear_components": sie.shear_components(ellipse, x, y, core),
        "1 / sie.magnification": 1 / sie.magnification(ellipse, x, y, core),
        "shear.potential": shear.potential(g, x, y),
        "ray_shoot": lenses.ray_shoot(lens, x, y, core),
        "convergence": lenses.convergence(lens, x, y, core),
        "fermat": lenses.fermat_potential(lens, x, y, beta_x, beta_y, core),
        "jacobian": lenses.jacobian(lens, x, y, core),
        "1 / magnification": 1 / lenses.magnification(lens, x, y, core),
    }


def shapes(p):
    """p is theta_E, q, phi and an ellipticity that is not nil."""
    lens = sie.from_axis_ratio(p[0], p[1], p[2])
    return {"from": lens[:3], "to": sie.axis_ratio(SIE(p[0], p[3], p[4], 0.0, 0.0))}


def curves(p):
    """p is an SIE and a shear."""
    lens = Lens(SIE(*(p[i] for i in range(5))), Shear(p[5], p[6]))
    return {f.__name__: f(lens, 7) for f in (
        images.critical_curve, images.caustic, images.cut)}  # fmt: skip


def distances(p):
    """p is H0, Om0, two redshifts and a velocity dispersion in 200 km/s."""
    cosmo, (z_l, z_s) = FlatLambdaCDM(p[0], p[1]), p[2:4]
    return {
        "comoving": cosmology.comoving_distance(cosmo, z_l),
        "angular": cosmology.angular_diameter_distance(cosmo, z_l, z_s),
        "D_dt": cosmology.time_delay_distance(cosmo, z_l, z_s),
        "theta_E": cosmology.einstein_radius(cosmo, 200 * p[4], z_l, z_s),
    }


def place(e, offset, core=sie.CORE, e_scale=1.0):
    """A row of `PARAMETERS`, and the sizes on which functions of each vary there."""
    x0, y0 = (0.05, -0.02) if np.hypot(*offset) > 0.1 else (0.0, 0.0)
    p = [1.3, *e, x0, y0, 0.04, -0.06, x0 + offset[0], y0 + offset[1], 0.1, 0.05, core]
    r = np.hypot(np.hypot(*offset), core)
    return np.array(p), np.array([1, e_scale, e_scale, r, r, 1, 1, r, r, 1, 1, r])


FAR, NEAR, CENTRE = (0.7, -0.4), (1e-4, -2e-4), (0.0, 0.0)
FUNCTIONS = {
    "lens": (
        lens_functions,
        [place(e, FAR, e_scale=0.1) for e in ((0.1, 0.15), (-0.5, 0.3), (0.1, -0.9))]
        + [
            place((0.6 * e, -0.8 * e), offset, core)
            for e in (0.0, 1e-7, 1e-4, 1e-2)
            for offset, core in (
                (FAR, sie.CORE), (NEAR, sie.CORE), (CENTRE, sie.CORE), (CENTRE, 0.1),
                ((0.0, 1.0), sie.CORE), ((1.0, 0.0), 0.0))
        ],
    ),
    "shapes": (
        shapes,
        [(np.array([1.3, q, 0.4, 0.2, -0.3]), np.full(5, 0.3)) for q in (0.6, 1.0)],
    ),
    "curves": (
        curves,
        [
            (np.array([1.3, *e, 0.05, -0.02, 0.04, -0.06]), np.full(7, 0.3))
            for e in ((0.0, 0.0), (0.2, -0.3))
        ],
    ),
    "distances": (
        distances,
        [(np.array([72, 0.32, 0.5, 2.0, 1.1]), np.array([72, 0.3, 0.3, 0.3, 1]))],
    ),
}  # fmt: skip


def programs(function):
    """Values; derivatives in reverse; and forward, with theirs along a direction."""

    def column(p):
        return jnp.concatenate([jnp.ravel(a) for a in jax.tree.leaves(function(p))])

    def slopes(p, along):
        forward = jax.jvp(jax.jacfwd(column), (p,), (along,))
        return jax.jacrev(column)(p), *forward

    return jax.jit(jax.vmap(column)), jax.jit(jax.vmap(slopes))


def rows_of(function, p):
    """Names of a column's entries."""
    found = jax.eval_shape(function, p).items()
    return [
        name
        for name, value in sorted(found)
        for leaf in jax.tree.leaves(value)
        for _ in range(leaf.size)
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_equal_finite_differences(x64, name):
    function, points = FUNCTIONS[name]
    values, slopes = programs(function)
    p, scale = (np.stack(a) for a in zip(*points, strict=True))
    n = p.shape[1]
    direction = np.random.default_rng(4).normal(size=n) * scale / np.sqrt(n)
    reverse, forward, second = map(np.asarray, slopes(p, direction))
    h = 1e-3

    def difference(f, step):
        """Of f per step, to the fourth order; step (point, n)."""
        near, far = (f(p + k * step) - f(p - k * step) for k in (h, 2 * h))
        return (8 * np.asarray(near) - np.asarray(far)) / (12 * h)

    first = [difference(values, scale * np.eye(n)[i]) for i in range(n)]
    first = np.stack(first, -1)
    bend = difference(lambda p: slopes(p, direction)[1], direction)
    # per step of a parameter's own size, in parts of what the function changes by
    size = np.maximum(np.abs(values(p)), np.abs(first).max(-1))
    labels = rows_of(function, p[0])
    for found, expected, limit in (
        (reverse * scale[:, None], first, 1e-8),
        (forward * scale[:, None], first, 1e-8),
        (second * scale[:, None], bend * scale[:, None], 1e-7),
    ):
        size = np.maximum(size, np.abs(expected).max(-1))
        wrong = ~(np.abs(found - expected) <= limit * np.maximum(size, 1e-3)[..., None])
        assert not wrong.any(), {(i, labels[j], k) for i, j, k in np.argwhere(wrong)}


# --- batches --------------------------------------------------------------------------


def field(lens, x, y, beta):
    """All that a lens does to an image of positions."""
    alone = lens.sie
    return (
        sie.deflect(alone, x, y),
        lenses.ray_shoot(lens, x, y),
        lenses.fermat_potential(lens, x, y, *beta),
        lenses.jacobian(lens, x, y),
        sie.direction(alone, x, y, 0.05),
    )


def deflection(lens, x, y, beta):
    return lenses.deflect(lens, x, y)


FIELDS = {"everything": field, "deflect": deflection}
N = 64
MANY = 5


def systems(round_):
    """MANY lenses, positions (MANY, N, N) and sources."""
    rng = np.random.default_rng(11)
    e = 0.0 if round_ else 0.3
    mass = SIE(
        rng.uniform(0.8, 1.5, MANY),
        *rng.uniform(-e, e, (2, MANY)),
        *rng.uniform(-0.05, 0.05, (2, MANY)),
    )
    lens = Lens(mass, Shear(*rng.uniform(-0.05, 0.05, (2, MANY))))
    axis = np.linspace(-2, 2, N)
    x, y = (np.stack([a] * MANY) for a in np.meshgrid(axis, axis))
    beta = tuple(rng.uniform(-0.1, 0.1, (2, MANY)))
    return lens, x, y, beta


def item(tree, i):
    return jax.tree.map(lambda a: a[i], tree)


def same(found, rows, limit):
    """Whether a batch is a list of rows, to a part `limit` of each one's largest."""
    rows = jax.tree.map(lambda *a: np.stack(a), *rows)
    for one, other in zip(*map(jax.tree.leaves, (found, rows)), strict=True):
        size = np.abs(other).max(tuple(range(1, other.ndim)), keepdims=True)
        assert (np.abs(np.asarray(one, float) - other) <= limit * size + 1e-12).all()


@pytest.mark.parametrize("name", FIELDS)
def test_many_cotangents_at_once_are_one_after_the_other(name):
    """For a lens each, and for one lens; float32, too, against float64."""

    def back(weights, *given):
        return jax.vjp(FIELDS[name], *given)[1](weights)

    alone, each = jax.jit(back), jax.jit(jax.vmap(back))
    of_one = jax.jit(jax.vmap(back, (0, *[None] * 4)))
    for round_ in (True, False):
        with jax.enable_x64(True):
            given = systems(round_)
            shapes = jax.eval_shape(jax.vmap(FIELDS[name]), *given)
            rng = np.random.default_rng(5)
            weights = jax.tree.map(lambda a, r=rng: r.normal(size=a.shape), shapes)
            truth = [alone(item(weights, i), *item(given, i)) for i in range(MANY)]
            one = [alone(item(weights, i), *item(given, 0)) for i in range(MANY)]
            same(each(weights, *given), truth, 1e-11)
        weights, given = jax.tree.map(jnp.float32, (weights, given))
        same(each(weights, *given), truth, 1e-3)
        same(of_one(weights, *item(given, 0)), one, 1e-3)
