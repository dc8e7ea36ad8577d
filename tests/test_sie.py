"""The singular isothermal ellipsoid against its reference values and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units as u

from lensjax import sie
from lensjax.sie import SIE

# theta_E, q, phi, x, y, alpha_x, alpha_y without core
REFERENCE = [
    (1.0, 0.5, 0.0, 0.1625, 0.1625, 0.507343112528, 0.794217298122),
    (1.5, 0.7, np.pi / 6, 0.7, 0.4, 1.195432348657, 0.681110031022),
    (1.5, 0.7, np.pi / 6, -1.0, 0.25, -1.378590008225, 0.522627621919),
    (2.0, 0.9, 1.0, 0.3, -1.7, 0.415321474430, -1.950831012192),
    (1.0, 0.999999, 0.3, 0.6, 0.8, 0.599999715458, 0.800000148623),
    (1.2, 0.2, 2.0, 0.05, 1.1, 0.393980941347, 0.655426409996),
]
TINY = [0.0, 1e-7, 1e-4, 1e-2]

# op by op, each operation is a program of its own, and takes long to compile
deflect, potential, convergence, magnification, shear_components = map(
    jax.jit,
    (sie.deflect, sie.potential, sie.convergence, sie.magnification)
    + (sie.shear_components,),
)
axis_ratio, from_axis_ratio = map(jax.jit, (sie.axis_ratio, sie.from_axis_ratio))


def lens_of(dtype, *values):
    return SIE(*(jnp.asarray(v, dtype) for v in values))


def draw(rng, dtype, n=200):
    """Lenses (n,), centred, and positions (n,) that stay clear of the core."""
    q, phi = rng.uniform(0.05, 1, n), rng.uniform(0, np.pi, n)
    lens = from_axis_ratio(
        jnp.asarray(rng.uniform(0.5, 3, n), dtype),
        jnp.asarray(q, dtype),
        jnp.asarray(phi, dtype),
        jnp.zeros(n, dtype),
        jnp.zeros(n, dtype),
    )
    r, angle = rng.uniform(0.1, 4, n), rng.uniform(0, 2 * np.pi, n)
    x, y = r * np.cos(angle), r * np.sin(angle)
    return lens, jnp.asarray(x, dtype), jnp.asarray(y, dtype)


@pytest.mark.parametrize("row", REFERENCE)
@pytest.mark.parametrize("core", [0.0, sie.CORE])
def test_deflection_has_its_reference_value(dtype, row, core):
    theta_E, q, phi, x, y = (jnp.asarray(v, dtype) for v in row[:5])
    alpha = deflect(from_axis_ratio(theta_E, q, phi), x, y, core)
    limit = 5e-6 if dtype == jnp.float32 else (1e-10 if core == 0 else 1e-7)
    assert all(a.dtype == dtype for a in alpha)
    np.testing.assert_allclose(alpha, row[5:], rtol=0, atol=limit)


def test_deflection_equals_the_textbook_form_with_its_rotation(dtype, rng):
    lens, x, y = draw(rng, dtype)
    q, phi = (np.asarray(a, np.float64) for a in axis_ratio(lens))
    f, b = np.sqrt(1 - q**2), 2 * q * np.asarray(lens.theta_E, np.float64) / (1 + q)
    c, s = np.cos(phi), np.sin(phi)
    px, py = np.asarray(x, np.float64), np.asarray(y, np.float64)
    major, minor = c * px + s * py, c * py - s * px
    delta = np.sqrt(q**2 * major**2 + minor**2)
    a_major = b / f * np.arctan(f * major / delta)
    a_minor = b / f * np.arctanh(f * minor / delta)
    truth = c * a_major - s * a_minor, s * a_major + c * a_minor
    limit = 1e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(deflect(lens, x, y, 0.0), truth, rtol=0, atol=limit)


@pytest.mark.parametrize("q", [0.2, 0.05, 0.01])
def test_flat_lenses_equal_the_textbook_form(x64, q):
    """Along the major axis, where a cut of the arctangent is near, and around."""
    angle = np.linspace(0, 2 * np.pi, 101)
    x, y = 1.7 * np.cos(angle), 1.7 * np.sin(angle)
    f, b, psi = np.sqrt(1 - q**2), 2 * q * 1.3 / (1 + q), np.hypot(q * x, y)
    truth = b / f * np.arctan(f * x / psi), b / f * np.arctanh(f * y / psi)
    lens = from_axis_ratio(1.3, q, 0.0)
    np.testing.assert_allclose(deflect(lens, x, y, 0.0), truth, atol=1e-11)
    if q > 0.1:  # below, 1 - e^2 itself is not a float32's to tell
        single = jax.tree.map(jnp.float32, (lens, x, y))
        np.testing.assert_allclose(deflect(*single, 0.0), truth, atol=2e-6)


@pytest.mark.parametrize("e", [0.0, 1e-12, 1e-8, 1e-7, 1e-5, 1e-3, 0.1, 0.9, 0.99])
def test_single_precision_takes_the_ellipse_s_frame_without_losing_digits(x64, e, rng):
    """Against float64's form without a frame, for the very same lens and places."""
    angle, size = rng.uniform(0, 2 * np.pi, 2000), 10 ** rng.uniform(-4, 2, 2000)
    angle[:9] = 0.4 + np.arange(9) * np.pi / 4  # its axes
    lens = SIE(1.0, e * np.cos(0.8), e * np.sin(0.8), 0.0, 0.0)
    single = jax.tree.map(
        jnp.float32, (lens, size * np.cos(angle), size * np.sin(angle))
    )
    assert deflect(*single)[0].dtype == jnp.float32
    truth = deflect(*jax.tree.map(jnp.float64, single))
    np.testing.assert_allclose(deflect(*single), truth, rtol=0, atol=1e-6)
    # and what `jax.grad` takes for the value is the same
    value, _ = jax.jvp(deflect, single, jax.tree.map(jnp.ones_like, single))
    np.testing.assert_allclose(value, truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("e", [(0.1, 0.15), (-0.5, 0.3), (0.1, -0.9)])
def test_derivatives_of_flattened_lenses_equal_finite_differences(x64, e):
    def alpha(p):
        return jnp.stack(deflect(SIE(*(p[i] for i in range(5))), p[5], p[6]))

    p = jnp.asarray([1.3, *e, 0.05, -0.02, 0.9, -0.4])
    alpha = jax.jit(alpha)
    jacobian = jax.jit(jax.jacfwd(alpha))
    hessian = jax.jit(jax.jacrev(jacobian))(p)
    for i, h in enumerate(1e-6 * np.eye(7)):
        slope = (alpha(p + h) - alpha(p - h)) / 2e-6
        np.testing.assert_allclose(jacobian(p)[:, i], slope, rtol=1e-6, atol=1e-8)
        slope = (jacobian(p + h) - jacobian(p - h)) / 2e-6
        np.testing.assert_allclose(hessian[:, :, i], slope, rtol=1e-5, atol=1e-6)


def test_round_lens_has_the_right_gradient_in_ellipticity(dtype):
    lens = lens_of(dtype, 1.3, 0, 0, 0, 0)
    x, y = jnp.asarray(0.7, dtype), jnp.asarray(0.4, dtype)
    limit = 5e-6 if dtype == jnp.float32 else 1e-6
    alpha = deflect(lens, x, y)
    np.testing.assert_allclose(alpha, (1.1287160848, 0.6449806199), atol=limit)
    slope = jax.jit(jax.grad(lambda *a: sie.deflect(*a)[0], argnums=(0, 1, 2)))
    d_lens, d_x, d_y = slope(lens, x, y)
    got = [d_x, d_y, d_lens.theta_E, d_lens.ex, d_lens.ey]
    truth = [0.396911, -0.694595, 0.868243, -0.561464 / 2, -0.105843 / 2]
    np.testing.assert_allclose(got, truth, atol=limit)


@pytest.mark.parametrize("e", TINY)
@pytest.mark.parametrize("position", [(0.7, 0.4), (0.0, 0.0), (1e-4, -2e-4)])
def test_gradients_equal_finite_differences_where_others_are_singular(x64, e, position):
    p = np.array([1.3, 0.6 * e, -0.8 * e, 0.0, 0.0, *position])
    step = 1e-4 if np.hypot(*position) > 0.1 else 1e-8

    @jax.jit
    def alpha(p):
        return jnp.stack(sie.deflect(SIE(*p[:5]), p[5], p[6]))

    def differences(i):
        h = step if i > 2 else 1e-4  # the core is 1e-4 wide
        d = [alpha(jnp.asarray(p + k * h * np.eye(7)[i])) for k in (-2, -1, 1, 2)]
        return (8 * (d[2] - d[1]) - (d[3] - d[0])) / (12 * h)

    numeric = np.stack([differences(i) for i in range(7)], -1)
    for jacobian in (jax.jacfwd, jax.jacrev):
        exact = jax.jit(jacobian(alpha))(jnp.asarray(p))
        np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("e", TINY)
@pytest.mark.parametrize("position", [(0.7, 0.4), (0.0, 0.0)])
def test_second_derivatives_are_right_at_the_singular_points(x64, e, position):
    p = jnp.asarray([1.3, 0.6 * e, -0.8 * e, 0.0, 0.0, *position])

    def alpha_x(p):
        return deflect(SIE(*p[:5]), p[5], p[6])[0]

    hessian = jax.jit(jax.hessian(alpha_x))(p)
    gradient = jax.jit(jax.grad(alpha_x))
    for i in (1, 2):
        h = 1e-5 * np.eye(7)[i]
        numeric = (gradient(p + h) - gradient(p - h)) / 2e-5
        np.testing.assert_allclose(hessian[i], numeric, rtol=1e-6, atol=1e-6)


def test_derivatives_are_finite_in_both_precisions(dtype):
    places = [(0.7, 0.4), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    p = np.array([[1.3, e, -e, 0.0, 0.0, *at] for e in TINY for at in places])

    def total(p):
        return sum(deflect(SIE(*(p[i] for i in range(5))), p[5], p[6]))

    hessian = jax.jit(jax.vmap(jax.hessian(total)))(jnp.asarray(p, dtype))
    assert np.isfinite(hessian).all()


def test_series_and_closed_form_meet(dtype):
    # |t| = |eps| = 0.1 is where they change over
    e = 2 * 0.1 / (1 + 0.1**2)
    x, y = jnp.asarray(0.3, dtype), jnp.asarray(0.8, dtype)

    def alpha(e):
        return deflect(SIE(1.0, e, 0.0, 0.0, 0.0), x, y, 0.0)[0]

    below, above = jnp.asarray(e - 1e-6, dtype), jnp.asarray(e + 1e-6, dtype)
    limit = 2e-5 if dtype == jnp.float32 else 1e-9
    slope = jax.jit(jax.grad(alpha))
    second = jax.jit(jax.grad(slope))
    assert abs(slope(above) - slope(below)) < limit + 2e-6
    assert abs(second(above) - second(below)) < 100 * limit + 1e-5


def test_deflection_does_not_depend_on_distance(dtype, rng):
    lens, x, y = draw(rng, dtype)
    near, far = deflect(lens, x, y, 0.0), deflect(lens, 7 * x, 7 * y, 0.0)
    np.testing.assert_allclose(near, far, atol=1e3 * jnp.finfo(dtype).eps)


def test_deflection_is_odd_and_zero_at_the_centre(dtype, rng):
    lens, x, y = draw(rng, dtype)
    np.testing.assert_array_equal(
        deflect(lens, x, y), -np.asarray(deflect(lens, -x, -y))
    )
    assert not np.any(deflect(lens, lens.x, lens.y))


def test_turning_lens_and_sky_turns_the_deflection(dtype, rng):
    lens, x, y = draw(rng, dtype)
    c, s = (jnp.asarray(f(0.8), dtype) for f in (np.cos, np.sin))
    c2, s2 = (jnp.asarray(f(1.6), dtype) for f in (np.cos, np.sin))
    turned = lens._replace(
        ex=c2 * lens.ex - s2 * lens.ey, ey=s2 * lens.ex + c2 * lens.ey
    )
    ax, ay = deflect(lens, x, y)
    got = deflect(turned, c * x - s * y, s * x + c * y)
    limit = 5e-5 if dtype == jnp.float32 else 1e-12  # q = 0.05 loses digits in |e|
    np.testing.assert_allclose(got, (c * ax - s * ay, s * ax + c * ay), atol=limit)


def test_deflection_is_the_gradient_of_the_potential(dtype, rng):
    lens, x, y = draw(rng, dtype, 50)

    def one(lens, x, y):
        return jax.grad(potential, argnums=(1, 2))(lens, x, y, 0.0)

    limit = 1e-4 if dtype == jnp.float32 else 1e-11
    np.testing.assert_allclose(
        jax.jit(jax.vmap(one))(lens, x, y), deflect(lens, x, y, 0.0), atol=limit
    )


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("e", [0.0, 0.25])
def test_a_lens_of_half_precision_takes_positions_of_single(half, e):
    lens = jax.tree.map(lambda a: jnp.asarray(a, half), SIE(1.0, e, e / 2, 0.0, 0.0))
    x, y = jnp.float32([0.7, -1.2]), jnp.float32([0.1, 2.0])
    with jax.numpy_dtype_promotion("standard"):
        seen = deflect(lens, x, y)
        same = deflect(jax.tree.map(jnp.float32, lens), x, y)
    np.testing.assert_allclose(seen, same, rtol=2e-2)


def test_divergence_is_twice_the_convergence_and_curl_is_nil(dtype, rng):
    lens, x, y = draw(rng, dtype, 50)

    def one(lens, x, y):
        return jnp.stack(
            [jnp.stack(jax.jacfwd(deflect, argnums=k)(lens, x, y, 0.0)) for k in (1, 2)]
        )

    (xx, yx), (xy, yy) = np.moveaxis(
        np.asarray(jax.jit(jax.vmap(one))(lens, x, y)), 0, -1
    )
    kappa = np.asarray(convergence(lens, x, y, 0.0))
    limit = dict(rtol=1e-4, atol=1e-4) if dtype == jnp.float32 else dict(rtol=1e-9)
    np.testing.assert_allclose(xx + yy, 2 * kappa, **limit)
    np.testing.assert_allclose(xy, yx, **dict(limit, atol=limit.get("atol", 1e-9)))
    gamma = np.hypot((xx - yy) / 2, (xy + yx) / 2)
    np.testing.assert_allclose(gamma, kappa, **limit)
    got = shear_components(lens, x, y, 0.0)
    close = dict(limit, atol=limit.get("atol", 1e-9))
    np.testing.assert_allclose(got, ((xx - yy) / 2, xy), **close)


def test_mean_convergence_inside_the_critical_ellipse_is_one(x64):
    # theta_E is the arithmetic mean of its semi-axes, and its area pi a b
    theta_E, q = 1.4, 0.6
    lens = from_axis_ratio(theta_E, q, 0.0)
    a, b = theta_E * 2 / (1 + q), theta_E * 2 * q / (1 + q)
    assert np.isclose((a + b) / 2, theta_E)
    for x, y in ((a, 0.0), (0.0, b)):
        assert np.isclose(convergence(lens, x, y, 0.0), 0.5)
        assert abs(1 / magnification(lens, x, y, 0.0)) < 1e-12


@pytest.mark.parametrize("q", [1.0, 1 - 1e-7, 1 - 1e-5])
def test_a_nearly_round_lens_deflects_like_a_round_one(dtype, q):
    lens = from_axis_ratio(1.3, jnp.asarray(q, dtype), 0.4)
    ax, ay = deflect(lens, jnp.asarray(0.6, dtype), jnp.asarray(0.8, dtype))
    np.testing.assert_allclose([ax, ay], [0.78, 1.04], atol=2e-5)


def test_axis_ratio_inverts_from_axis_ratio(dtype, rng):
    q = jnp.asarray(rng.uniform(0.1, 0.95, 50), dtype)
    phi = jnp.asarray(rng.uniform(-np.pi / 2, np.pi / 2, 50), dtype)
    got = axis_ratio(from_axis_ratio(1.0, q, phi))
    np.testing.assert_allclose(got, (q, phi), atol=200 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize(
    "degrees, printed", [(20, 25), (70, 115), (110, 115), (160, 65)]
)
def test_angle_comes_back_where_the_papers_printed_formula_fails(x64, degrees, printed):
    lens = from_axis_ratio(1.0, 0.6, np.radians(degrees))
    assert np.isclose(np.degrees(axis_ratio(lens)[1]) % 180, degrees)
    # Schuldt et al. (2021), eq. 5 as printed, for the same ellipticity
    size = np.hypot(lens.ex, lens.ey)
    if lens.ex > 0:
        theirs = np.arccos(lens.ey / size) / 2
    else:
        theirs = np.pi / 2 + abs(np.arcsin(lens.ex / size) / 2)
    assert np.isclose(np.degrees(theirs), printed)


def test_edge_values_of_the_ellipticity(dtype):
    q, phi = sie.axis_ratio(lens_of(dtype, 1, 0, 0, 0, 0))
    assert (q, phi) == (1, 0)
    for k in (0, 1):
        g = jax.grad(lambda ln, k=k: sie.axis_ratio(ln)[k])(
            lens_of(dtype, 1, 0, 0, 0, 0)
        )
        assert (g.ex, g.ey) == (0, 0)
    for e in (1.01, -3.0):
        impossible = lens_of(dtype, 1, e, 0, 0, 0)
        assert np.isnan(sie.axis_ratio(impossible)[0])
        one = jnp.ones((), dtype)
        assert np.isnan(sie.deflect(impossible, one, one)).all()
    # along +x and +y, spin two
    assert np.isclose(sie.axis_ratio(lens_of(dtype, 1, 0.3, 0, 0, 0))[1], 0)
    up = sie.axis_ratio(lens_of(dtype, 1, -0.3, 0, 0, 0))[1]
    assert np.isclose(up, np.pi / 2)


def test_vmap_is_a_loop_and_jit_is_eager(dtype, rng):
    lens, x, y = draw(rng, dtype, 5)
    mapped = jax.vmap(sie.deflect)(lens, x, y)
    for i in range(5):
        one = sie.deflect(jax.tree.map(lambda a, i=i: a[i], lens), x[i], y[i])
        np.testing.assert_allclose([m[i] for m in mapped], one, rtol=1e-5)
    limit = 1e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(
        jax.jit(sie.deflect)(lens, x, y), sie.deflect(lens, x, y), atol=limit
    )


def test_ten_calls_are_traced_once(dtype):
    traces = []

    @jax.jit
    def alpha(lens, x, y):
        traces.append(1)
        return sie.deflect(lens, x, y)

    for i in range(10):
        x = jnp.asarray(0.1 * i, dtype)
        alpha(lens_of(dtype, 1 + i / 10, 0.1, 0.2, 0, 0), x, x)
    assert len(traces) == 1


@pytest.mark.parametrize("kind", [float, np.float32, jnp.float32])
def test_a_scalar_lens_takes_an_image_of_positions(kind):
    x = jnp.linspace(-1, 1, 12).reshape(3, 4)
    values = [kind(v) for v in (1.2, 0.1, -0.2, 0.0, 0.1)]
    for lens in (SIE(*values), SIE(values[0], 0.1, values[2], 0.0, 0)):
        ax, ay = sie.deflect(lens, x, x)
        assert ax.shape == ay.shape == x.shape
        assert ax.dtype == jnp.float32
        assert sie.potential(lens, x, x).shape == x.shape
        assert sie.convergence(lens, x, x).shape == x.shape
        assert sie.magnification(lens, x, x).shape == x.shape


def test_quantities_are_taken_at_the_door():
    lens = sie.from_axis_ratio(1300 * u.mas, 0.7, 30 * u.deg, 0.1 * u.arcsec, 0.0)
    plain = sie.from_axis_ratio(1.3, 0.7, np.pi / 6, 0.1, 0.0)
    np.testing.assert_allclose(lens, plain, rtol=1e-6)
    with pytest.raises(u.UnitConversionError):
        sie.from_axis_ratio(1.3 * u.kpc, 0.7, 0.0)
