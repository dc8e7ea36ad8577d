"""Light profiles against integrals, closed forms and finite differences."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special

from lensjax import light

sersic = jax.jit(light.sersic)  # op by op each operation is a program of its own


@pytest.mark.parametrize("n", [0.6, 1.0, 4.0, 7.0])
@pytest.mark.parametrize(("q", "phi"), [(1.0, 0.0), (0.4, 0.7)])
def test_sersic_holds_unit_flux_and_half_of_it_within_its_radius(x64, n, q, phi):
    radius = 0.7

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def integrand(log_r, angle):
        """In elliptical polar coordinates, where r is the circularised radius."""
        u, v = jnp.exp(log_r) * jnp.array([jnp.cos(angle), jnp.sin(angle)])
        along, across = u / jnp.sqrt(q), v * jnp.sqrt(q)
        x = jnp.cos(phi) * along - jnp.sin(phi) * across
        y = jnp.sin(phi) * along + jnp.cos(phi) * across
        brightness = light.sersic(x, y, radius, n, q, phi, softening=0.0)
        return brightness * jnp.exp(2 * log_r)

    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    log_r = np.linspace(np.log(1e-9 * radius), np.log(radius), 801)
    far = np.linspace(np.log(radius), np.log(1e6 * radius), 1601)
    within, beyond = (
        integrate.simpson(2 * np.pi * np.asarray(integrand(s, angle)).mean(1), x=s)
        for s in (log_r, far)
    )
    np.testing.assert_allclose(within + beyond, 1, rtol=3e-4)
    np.testing.assert_allclose(within, 0.5, rtol=1e-3)


@pytest.mark.parametrize(
    ("n", "radius"),
    [
        (0.5, 0.2),
        (1.0, 0.2),
        (4.0, 0.2),
        (4.0, 0.05),
        (6.0, 0.5),
        (8.0, 0.1),
        (1.0, 3e-3),
    ],
)
def test_a_softened_cusp_costs_no_flux(dtype, n, radius):
    """Rings summed up in float64, out to where 1e-4 of the light is left."""
    r = np.concatenate([[0.0], np.geomspace(1e-6, 4e4 * max(radius, 0.02), 200_001)])
    numbers = (jnp.asarray(v, dtype) for v in (r, 0 * r, radius, n, 1.0, 0.0))
    profile = np.asarray(sersic(*numbers), float)
    assert abs(integrate.trapezoid(2 * np.pi * r * profile, r) - 1) < 3e-4


def test_the_incomplete_gamma_function_is_scipys(dtype):
    a = jnp.asarray(np.array([1.0, 1.3, 2, 5, 8, 12, 20]), dtype)[:, None]
    t = a * jnp.asarray(np.array([1e-6, 0.01, 0.3, 0.9, 1.1, 2, 5]), dtype)[None]
    log_gamma = jax.jit(light._log_upper_gamma)
    found = np.asarray(log_gamma(*np.broadcast_arrays(a, t)), float)
    a, t = np.asarray(a, float), np.asarray(t, float)
    expected = special.gammaln(a) + np.log(special.gammaincc(a, t))
    atol = 1e-12 if dtype == jnp.float64 else 2e-5
    np.testing.assert_allclose(found, expected, rtol=atol, atol=atol)


SERSIC = light.Sersic(np.array([3.0, 5.0]), 0.6, 2.5, 0.2, -0.3, 0.05, -0.1)
GAUSSIANS = light.MultiGaussian(
    np.array([[3.0, 5.0], [1.0, 0.5], [0.2, 0.4]]),
    np.array([0.2, 0.5, 1.1]),
    0.2,
    -0.3,
    0.05,
    -0.1,
)


def stamp(dtype=jnp.float32):
    image = np.random.default_rng(5).random((31, 31, 2))
    return light.Stamp(jnp.asarray(image, dtype), jnp.asarray([2.0, 0.5], dtype), 0.1)


def grid(n, dtype, reach=1.6):
    axis = jnp.linspace(-reach, reach, n, dtype=dtype)
    return jnp.meshgrid(axis, axis)


def of(record, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), record)


def test_a_sersic_record_is_the_profile_of_its_axis_ratio_and_angle(dtype):
    x, y = grid(16, dtype)
    e = np.hypot(SERSIC.ex, SERSIC.ey)
    q, phi = np.sqrt((1 - e) / (1 + e)), np.arctan2(SERSIC.ey, SERSIC.ex) / 2
    found = jax.jit(light.brightness)(of(SERSIC, dtype), x, y)
    assert found.shape == (16, 16, 2) and found.dtype == dtype
    dx, dy = x - dtype.type(0.05), y + dtype.type(0.1)
    one = sersic(dx, dy, *(dtype.type(v) for v in (0.6, 2.5, q, phi)))
    for band, flux in enumerate((3.0, 5.0)):
        np.testing.assert_allclose(found[..., band], flux * one, rtol=2e-5)


def test_gaussians_add_up_and_hold_their_flux(x64):
    x, y = grid(301, float, 6.0)
    found = np.asarray(light.brightness(GAUSSIANS, x, y))
    step = 12.0 / 300
    np.testing.assert_allclose(found.sum((0, 1)) * step**2, [4.2, 5.9], rtol=1e-4)
    # covariance of each: sigma^2 (1 + e) / sqrt(1 - e^2) along the major axis
    w = found[..., 0] / found[..., 0].sum()
    dx, dy = np.asarray(x) - 0.05, np.asarray(y) + 0.1
    xx, yy, xy = (w * dx**2).sum(), (w * dy**2).sum(), (w * dx * dy).sum()
    np.testing.assert_allclose(
        [(xx - yy) / (xx + yy), 2 * xy / (xx + yy)], [0.2, -0.3], atol=1e-3
    )


def test_a_stamp_shines_in_each_band_by_its_factor():
    source, (x, y) = stamp(), grid(12, jnp.float32)
    pattern = light.surface_brightness(source, x, y)
    found = light.brightness(source, x, y)
    expected = np.asarray(pattern) * np.array([2.0, 0.5])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # at the middle of a pixel it is that pixel's
    at = light.brightness(source, jnp.array(0.3), jnp.array(-0.2))
    expected = source.image[15 - 2, 15 + 3] * source.flux / 0.1**2
    np.testing.assert_allclose(at, expected, rtol=1e-4)


def test_a_record_of_ones_own_joins_in_and_others_are_refused():
    class Flat(tuple):
        pass

    with pytest.raises(TypeError, match="Flat has no surface brightness: give a"):
        light.brightness(Flat(), 0.0, 0.0)
    light.brightness.register(Flat)(lambda source, x, y: jnp.ones((*x.shape, 1)))
    pattern, flux = light.factored(Flat(), *grid(3, jnp.float32))
    assert pattern.shape == (3, 3, 1) and flux.shape == (1,)


@pytest.mark.parametrize("e", [(0.0, 0.0), (0.2, -0.3)])
@pytest.mark.parametrize("record", [SERSIC, GAUSSIANS], ids=["sersic", "gaussians"])
def test_derivatives_are_finite_differences_round_galaxies_included(x64, record, e):
    x, y = grid(5, float)
    record = of(record._replace(ex=e[0], ey=e[1]), float)
    numbers, shape = jax.flatten_util.ravel_pytree(record)
    weights = jnp.asarray(np.random.default_rng(0).random((5, 5, 2)))

    @jax.jit
    @jax.vmap
    def value_and_slope(v):
        def total(v):
            return (weights * light.brightness(shape(v), x, y)).sum()

        return total(v), jax.grad(total)(v), jax.hessian(total)(v)

    h = 1e-5
    steps = h * np.eye(len(numbers))
    _, slope, bend = (np.asarray(a)[0] for a in value_and_slope(numbers[None]))
    above, below = (value_and_slope(numbers[None] + s) for s in (steps, -steps))
    first, second = (
        (np.asarray(above[k]) - np.asarray(below[k])) / (2 * h) for k in (0, 1)
    )
    np.testing.assert_allclose(slope, first, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(bend, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sersic", "gaussians", "stamp"])
def test_batches_of_cotangents_are_a_loop_of_them(dtype, kind):
    """At sizes at which XLA's CPU backend has fused such programs wrongly."""
    records = {"sersic": SERSIC, "gaussians": GAUSSIANS, "stamp": stamp(dtype)}
    record = of(records[kind], dtype)
    x, y = (a + dtype.type(0.013) for a in grid(96, dtype))
    many = np.random.default_rng(1).normal(size=(5, 96, 96, 2))
    many = jnp.asarray(many, dtype)

    def back(w):
        return jax.vjp(lambda *a: light.brightness(*a), record, x, y)[1](w)

    one, together = jax.jit(back), jax.jit(jax.vmap(back))(many)
    alone = [one(w) for w in many]
    rtol = 1e-10 if dtype == jnp.float64 else 1e-4
    for k, leaves in enumerate(
        zip(*map(jax.tree.leaves, (together, *alone)), strict=True)
    ):
        batch, *singles = map(np.asarray, leaves)
        size = max(abs(s).max() for s in singles)
        np.testing.assert_allclose(
            batch, np.stack(singles), rtol=0, atol=rtol * size, err_msg=str(k)
        )


def test_sersic_has_its_axis_ratio_and_angle(x64):
    q, phi = 0.5, 2.0
    c, s = np.cos(phi), np.sin(phi)
    along = sersic(0.8 * c, 0.8 * s, 1.0, 3.0, q, phi)
    across = sersic(-0.8 * q * s, 0.8 * q * c, 1.0, 3.0, q, phi)
    np.testing.assert_allclose(along, across, rtol=1e-3)  # softened unlike
    np.testing.assert_allclose(
        sersic(0.8 * c, 0.8 * s, 1.0, 3.0, q, phi, 0.0),
        sersic(-0.8 * q * s, 0.8 * q * c, 1.0, 3.0, q, phi, 0.0),
    )


def test_a_gaussian_is_the_sersic_profile_of_index_one_half(x64):
    # 2 pi sigma^2 holds half its light within sigma sqrt(2 ln 2)
    r, sigma = np.linspace(0.0, 3.0, 7), 0.9
    expected = np.exp(-(r**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    found = sersic(r, 0 * r, sigma * np.sqrt(2 * np.log(2)), 0.5, 1.0, 0.0, 0.0)
    np.testing.assert_allclose(found, expected, rtol=4e-3)


def test_sersic_agrees_with_the_exact_half_light_constant(x64):
    for n in (0.7, 1.0, 4.0, 6.5):
        b = optimize.brentq(lambda b, n=n: special.gammainc(2 * n, b) - 0.5, 0.1, 20)
        total = 2 * np.pi * n * b ** (-2 * n) * special.gamma(2 * n)
        r = np.array([0.1, 0.5, 1.0, 3.0])
        expected = np.exp(-b * r ** (1 / n)) / total
        found = sersic(r, 0 * r, 1.0, n, 1.0, 0.0, 0.0)
        np.testing.assert_allclose(found, expected, rtol=5e-4)


@pytest.mark.parametrize("n", [0.6, 1.0, 4.0])
def test_sersic_has_finite_and_right_gradients_at_its_centre(dtype, n):
    where = jnp.asarray([0.0, 0.0, 0.5, n, 0.7, 0.3], dtype)
    gradient = jax.jit(jax.grad(lambda p: light.sersic(*p)))(where)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:2], 0)  # a maximum
    if dtype == jnp.float64:
        for k in range(2, 6):
            step = jnp.zeros(6).at[k].set(1e-6)
            up, down = sersic(*(where + step)), sersic(*(where - step))
            np.testing.assert_allclose(
                gradient[k], (up - down) / 2e-6, rtol=1e-6, atol=1e-6
            )
