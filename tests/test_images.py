"""Images of a point source: where, how many, how bright, when."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units as u
from jax.sharding import NamedSharding, PartitionSpec

from lensjax import cosmology, images, sie
from lensjax import lens as lens_module
from lensjax.cosmology import FlatLambdaCDM
from lensjax.lens import Lens
from lensjax.shear import Shear

N = 2000
TILTED = (1.5, 0.7, np.pi / 6)
# (theta_E, q, phi), beta, rows of x, y, magnification, days after the first
REFERENCE = {
    "quad": (TILTED, (0.05, 0.08), [
        (-0.4607052423, 1.5354388902, 4.57025447, 0),
        (1.1244911744, -1.0192399643, 6.02708016, 12.42280372),
        (1.3539051195, 0.5353985027, -5.03085203, 20.98245590),
        (-1.0520471895, -0.7473317651, -2.76809070, 42.16495554),
    ]),
    "double": (TILTED, (0.3, 0.25), [
        (0.7463989595, 1.6274669748, 6.61003485, 0),
        (-0.8101880059, -0.5657734214, -1.28370919, 103.91933721),
    ]),
    "elongated": ((2.0, 0.5, np.pi / 3), (0.1, -0.05), [
        (1.8614455968, -1.0541732484, 2.65460677, 0),
        (-1.6482030142, 0.9770259647, 3.28860321, 42.19265420),
        (0.6517107386, 1.4754743803, -1.59917046, 92.04403191),
        (-0.9422620989, -1.2927095868, -1.56355193, 94.03899788),
    ]),
}  # fmt: skip

solve = jax.jit(images.solve)
solve_many = jax.jit(jax.vmap(images.solve))


def lens_of(dtype, theta_E, q, phi, x=0.0, y=0.0, g1=0.0, g2=0.0):
    lens = Lens(sie.from_axis_ratio(theta_E, q, phi, x, y), Shear(g1, g2))
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), lens)


def solved(dtype, lens, beta):
    """Rows (x, y, magnification) of the images, NaN free, first image first."""
    found = solve(lens, *(jnp.asarray(b, dtype) for b in beta))
    rows = np.stack([found.x, found.y, found.magnification], -1)
    n = int(found.valid.sum())
    assert found.valid[:n].all() and not found.valid[n:].any()
    assert np.isfinite(rows[:n]).all()
    assert np.isnan(rows[n:, :2]).all() and not rows[n:, 2].any()
    return rows[:n]


@pytest.mark.parametrize("name", REFERENCE)
def test_images_have_their_reference_values(dtype, name):
    parameters, beta, truth = REFERENCE[name]
    truth = np.array(truth)
    lens = lens_of(dtype, *parameters)
    rows = solved(dtype, lens, beta)
    near = 1e-5 if dtype == jnp.float32 else 1e-7
    assert len(rows) == len(truth)
    np.testing.assert_allclose(rows[:, :2], truth[:, :2], atol=near)
    np.testing.assert_allclose(
        rows[:, 2], truth[:, 2], rtol=3e-5 if near > 1e-6 else 1e-7
    )

    d_dt = cosmology.time_delay_distance(FlatLambdaCDM(70.0, 0.3), 0.5, 1.5)
    found = solve(lens, *(jnp.asarray(b, dtype) for b in beta))
    days = jax.jit(images.arrival_times)(lens, found, *beta, d_dt)
    assert np.isnan(days[len(truth) :]).all()
    late = 5e-3 if dtype == jnp.float32 else 1e-5
    np.testing.assert_allclose(days[: len(truth)], truth[:, 3], atol=late)
    if (dtype, name) == (jnp.float32, "quad"):  # op by op, and with a unit
        again = images.arrival_times(lens, found, *beta, float(d_dt) * u.Mpc)
        np.testing.assert_allclose(days, again, atol=late)


def test_a_centred_source_has_four_images_on_the_axes(dtype):
    rows = solved(dtype, lens_of(dtype, 1, 0.8, 0), (0, 0))
    a, b = 0.9533349760, 1.0268847119
    truth = [(0, b), (0, -b), (a, 0), (-a, 0)]
    gap = np.abs(rows[:, None, :2] - np.array(truth)).max(-1)
    assert (gap.min(0) < 5e-6).all() and len(rows) == 4


def test_a_source_on_a_symmetry_axis_has_its_four_images(dtype):
    rows = solved(dtype, lens_of(dtype, 1, 0.8, 0), (0.05, 0))
    truth = [
        (1.00333498, 0), (-0.90333498, 0),
        (0.36983781, 0.96760513), (0.36983781, -0.96760513),
    ]  # fmt: skip
    gap = np.abs(rows[:, None, :2] - np.array(truth)).max(-1)
    assert (gap.min(0) < 5e-6).all() and len(rows) == 4


def test_a_round_lens_has_two_images_in_line_with_the_source(dtype):
    beta = np.array([0.2, 0.1])
    rows = solved(dtype, lens_of(dtype, 1, 1, 0), beta)
    r = np.hypot(*beta)
    truth = [beta * (1 + 1 / r), beta * (1 - 1 / r)]
    np.testing.assert_allclose(rows[:, :2], truth, atol=5e-6)
    np.testing.assert_allclose(rows[:, 2], [1 + 1 / r, 1 - 1 / r], rtol=2e-5)


def test_outside_its_cut_a_round_lens_has_one_image(dtype):
    assert len(solved(dtype, lens_of(dtype, 1, 1, 0), (1.01, 0))) == 1


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.013, -0.07)])
@pytest.mark.parametrize("amplitude", [0.0, 1e-18])
def test_an_einstein_ring_is_no_set_of_images(dtype, offset, amplitude):
    lens = lens_of(dtype, 1.3, 1, 0, *offset)
    lens = lens._replace(sie=lens.sie._replace(ex=lens.sie.ex + amplitude))
    assert len(solved(dtype, lens, offset)) == 0


def test_a_naked_cusp_has_three_images(dtype):
    rows = solved(dtype, lens_of(dtype, 1, 0.2, 0), (0.8, 0.0))
    cut = closed_form_curves(1.0, 0.2)[1]
    assert len(rows) == 3 and cut[:, 0].max() < 0.8


def test_no_lens_leaves_the_source_where_it_is(dtype):
    rows = solved(dtype, lens_of(dtype, 0, 1, 0), (0.3, 0.2))
    np.testing.assert_allclose(rows, [(0.3, 0.2, 1)], atol=1e-6)


def closed_form_curves(theta_E, q, n=1441):
    """Diamond and cut of an ellipsoid along x, (n, 2)."""
    angle = np.linspace(0, 2 * np.pi, n)
    c, s = np.cos(angle), np.sin(angle)
    f, b = np.sqrt(1 - q**2), 2 * q * theta_E / (1 + q)
    delta = np.sqrt(q**2 * c**2 + s**2)
    alpha = b / f * np.stack([np.arctan(f * c / delta), np.arctanh(f * s / delta)], -1)
    return b * np.stack([c, s], -1) / delta[:, None] - alpha, alpha


def encloses(curve, point):
    """Whether the closed curve (n, 2) goes around the point."""
    d = np.asarray(curve) - point
    a, b = d[:-1], d[1:]
    turn = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(-1))
    return abs(turn.sum()) > np.pi


def distance(curve, point):
    """Distance of the point from the curve (n, 2)."""
    a, b = curve[:-1] - point, curve[1:] - point
    part = np.clip(-(a * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
    return np.hypot(*(a + part[:, None] * (b - a)).T).min()


@functools.cache
def systems(shear):
    """N systems: columns theta_E, q, phi, x, y, g1, g2; sources in the lens frame.

    Half of the sources lie 1e-3 to 1e-2 arcsec beside a caustic or cut.
    """
    rng = np.random.default_rng(7)
    p = np.zeros((N, 7))
    p[:, 0], p[:, 1] = rng.uniform(0.5, 3, N), rng.uniform(0.2, 0.99, N)
    p[:, 2], p[:, 3:5] = rng.uniform(0, np.pi, N), rng.normal(0, 0.05, (N, 2))
    if shear:
        g, angle = rng.uniform(0, 0.3, N), rng.uniform(0, 2 * np.pi, N)
        p[:, 5], p[:, 6] = g * np.cos(angle), g * np.sin(angle)
    r, angle = 1.3 * p[:, 0] * np.sqrt(rng.uniform(size=N)), rng.uniform(0, 7, N)
    source = r[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    for i in range(0, N, 2):
        curve = closed_form_curves(p[i, 0], p[i, 1])[(i // 2) % 2]
        off, turn = rng.uniform(1e-3, 1e-2), rng.uniform(0, 2 * np.pi)
        source[i] = curve[rng.integers(len(curve))]
        source[i] += off * np.array([np.cos(turn), np.sin(turn)])
    return p, source


def solve_systems(dtype, p, source):
    c, s = np.cos(p[:, 2]), np.sin(p[:, 2])
    beta_x = c * source[:, 0] - s * source[:, 1] + p[:, 3]
    beta_y = s * source[:, 0] + c * source[:, 1] + p[:, 4]
    lens = lens_of(dtype, *(jnp.asarray(a, dtype) for a in p.T))
    beta = jnp.asarray(beta_x, dtype), jnp.asarray(beta_y, dtype)
    return lens, beta, solve_many(lens, *beta)


@functools.cache
def closed_form_counts():
    """Image counts of `systems` without shear; -1 next to a caustic or cut."""
    p, source = systems(shear=False)
    count = np.full(N, -1)
    for i in range(N):
        diamond, cut = closed_form_curves(p[i, 0], p[i, 1], 721)
        if min(distance(diamond, source[i]), distance(cut, source[i])) > 5e-4:
            count[i] = 1 + encloses(cut, source[i]) + 2 * encloses(diamond, source[i])
    return count


def test_plain_ellipsoids_have_the_closed_forms_number_of_images(dtype):
    *_, found = solve_systems(dtype, *systems(shear=False))
    truth = closed_form_counts()
    far = truth >= 0
    np.testing.assert_array_equal(np.asarray(found.valid).sum(-1)[far], truth[far])
    assert far.mean() > 0.9 and set(truth[far]) == {1, 2, 3, 4}


def dense_search(p, beta, n=8192):
    """Images of an SIE in shear by steps in polar angle and the textbook's formula."""
    theta_E, q, phi, x0, y0, g1, g2 = p
    angle = np.linspace(0, 2 * np.pi, n + 1) + 0.001
    ux, uy = np.cos(angle), np.sin(angle)
    f, b = np.sqrt(1 - q**2), 2 * q * theta_E / (1 + q)
    major, minor = np.cos(angle - phi), np.sin(angle - phi)
    delta = np.sqrt(q**2 * major**2 + minor**2)
    a, c = b / f * np.arctan(f * major / delta), b / f * np.arctanh(f * minor / delta)
    # (1 - Gamma)(theta - centre) = beta - (1 - Gamma) centre + alpha
    zx = beta[0] - x0 + g1 * x0 + g2 * y0 + np.cos(phi) * a - np.sin(phi) * c
    zy = beta[1] - y0 + g2 * x0 - g1 * y0 + np.sin(phi) * a + np.cos(phi) * c
    zx, zy = np.linalg.solve([[1 - g1, -g2], [-g2, 1 + g1]], [zx, zy])
    cross = ux * zy - uy * zx
    at = np.flatnonzero((cross[1:] >= 0) != (cross[:-1] >= 0))
    at = at[ux[at] * zx[at] + uy[at] * zy[at] > 0]
    part = cross[at] / (cross[at] - cross[at + 1])
    return np.stack([z[at] + part * (z[at + 1] - z[at]) for z in (zx, zy)], -1) + (
        x0,
        y0,
    )


def test_in_shear_no_image_is_lost_doubled_or_off(dtype):
    p, source = systems(shear=True)
    lens, beta, found = solve_systems(dtype, p, source)
    valid = np.asarray(found.valid)
    miss = []
    for core in (sie.CORE, 0.0):
        # vmap adds the axis of slots
        seen = jax.vmap(lambda ln, x, y, c=core: lens_module.ray_shoot(ln, x, y, c))(
            lens, found.x, found.y
        )
        miss.append(
            np.hypot(*(s - b[:, None] for s, b in zip(seen, beta, strict=True)))
        )
    centre = np.hypot(*(a - c[:, None] for a, c in (
        (found.x, lens.sie.x), (found.y, lens.sie.y))))  # fmt: skip
    small = 1e-8 if dtype == jnp.float64 else 3e-5
    # beside the centre the softened lens has no image; there the singular lens's stays
    assert (miss[0][valid & (centre > 0.02)] < small).all()
    assert (np.minimum(*miss)[valid] < (small if dtype == jnp.float64 else 1e-3)).all()
    few = 0
    for i in range(0, N, 4):
        truth = dense_search(p[i], [np.float64(b[i]) for b in beta])
        ours = np.stack([found.x[i], found.y[i]], -1)[valid[i]]
        assert len(ours) == len(truth), (p[i], source[i])
        gap = np.hypot(*(truth[:, None] - ours).T)
        assert (gap.min(0) < 5e-3).all() and (gap.min(1) < 5e-3).all()
        few += len(truth) > 2
    assert few > 20


def test_eight_images_in_very_strong_shear(dtype):
    p = (1.0, 0.1, 0.0, 0.0, 0.0, 0.7, 0.0)
    beta = (0.031, -0.001)
    truth = dense_search(p, beta)
    assert len(solved(dtype, lens_of(dtype, *p), beta)) == len(truth) == 8


def test_a_quads_signed_magnifications_sum_to_about_2_8(x64, rng):
    p, source = (a.copy() for a in systems(shear=False))
    source *= 0.01
    p[:, 1] = rng.uniform(0.6, 0.8, N)
    *_, found = solve_systems(jnp.float64, p, source)
    total = np.asarray(found.magnification.sum(-1))[
        np.asarray(found.valid.sum(-1)) == 4
    ]
    assert len(total) > 0.9 * N
    assert ((total > 2.7) & (total < 2.9)).all()


def test_delays_follow_the_closed_form_without_shear(x64):
    # t_i - t_j = D_dt / (2c) (|theta_j|^2 - |theta_i|^2) about the lens centre
    lens = lens_of(jnp.float64, *TILTED)
    found = solve(lens, jnp.asarray(0.05), jnp.asarray(0.08))
    days = images.arrival_times(lens, found, 0.05, 0.08, 3329.66536)
    r2 = found.x**2 + found.y**2
    np.testing.assert_allclose(days[:4], 46.6161525 * (r2[0] - r2)[:4], atol=1e-4)


# --- gradients ----------------------------------------------------------------------

PARAMETERS = np.array([1.5, 0.2, -0.3, 0.03, -0.02, 0.04, -0.06, 0.05, 0.08])
PARAMETERS_OF_A_DOUBLE = np.array([1.5, 0.1, -0.1, 0.03, -0.02, 0.04, -0.06, 0.4, 0.3])


def slots(p):
    """x, y, magnification and days of all slots, zero where empty: (4, SLOTS)."""
    lens = Lens(sie.SIE(*(p[i] for i in range(5))), Shear(p[5], p[6]))
    found = images.solve(lens, p[7], p[8])
    days = images.arrival_times(lens, found, p[7], p[8], 3000.0)
    both = [found.x, found.y, found.magnification, days]
    return jnp.stack([jnp.where(found.valid, a, 0) for a in both])


def total(p):
    """A smooth sum over the slots, the empty ones masked."""
    return sum(
        w * (s**2).sum() for w, s in zip((1.0, 2.0, 0.1, 0.01), slots(p), strict=True)
    )


@pytest.mark.parametrize("p", [PARAMETERS, PARAMETERS_OF_A_DOUBLE])
def test_gradients_of_images_equal_finite_differences(x64, p):
    evaluate = jax.jit(slots)
    exact = jax.jit(jax.jacfwd(slots))(jnp.asarray(p))
    h = 1e-5 * np.eye(9)
    numeric = [(evaluate(p + d) - evaluate(p - d)) / 2e-5 for d in h]
    numeric = np.stack(numeric, -1)
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-5)
    assert np.abs(numeric).max() > 1


def test_reverse_mode_with_empty_slots_is_right_and_free_of_nan(dtype):
    both = jnp.asarray([PARAMETERS, PARAMETERS_OF_A_DOUBLE], dtype)
    # one program for values and gradients: compiling is what takes time here
    evaluate = jax.jit(jax.vmap(jax.value_and_grad(total)))
    reverse = evaluate(both)[1]
    assert np.isfinite(reverse).all()
    if dtype == jnp.float64:
        for i in range(9):
            h = 1e-5 * np.eye(9)[i][None].repeat(2, 0)
            numeric = (evaluate(both + h)[0] - evaluate(both - h)[0]) / 2e-5
            np.testing.assert_allclose(reverse[:, i], numeric, rtol=1e-5, atol=1e-5)


def test_second_derivatives_equal_differences_of_the_first(x64):
    def first_image(p):
        lens = Lens(sie.SIE(*(p[i] for i in range(5))), Shear(p[5], p[6]))
        return images.solve(lens, p[7], p[8]).x[0]

    p = jnp.asarray(PARAMETERS)

    @jax.jit
    def gradient(p, along):  # and its derivative in a direction
        return jax.jvp(jax.grad(first_image), (p,), (along,))

    for along in np.eye(9):
        exact = gradient(p, along)[1]
        h = 1e-5 * along
        numeric = (gradient(p + h, along)[0] - gradient(p - h, along)[0]) / 2e-5
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-5)


def test_a_ring_has_finite_gradients(x64):
    p = jnp.asarray([1.3, 0, 0, 0, 0, 0, 0, 0, 0.0])
    assert not np.any(jax.jit(jax.grad(total))(p))


# --- vmap, jit, inputs ----------------------------------------------------------------


def test_vmap_is_a_loop(dtype):
    p, source = systems(shear=True)
    lens, beta, found = solve_systems(dtype, p, source)
    for i in range(1, 11, 2):
        one = solve(jax.tree.map(lambda a, i=i: a[i], lens), beta[0][i], beta[1][i])
        np.testing.assert_array_equal(one.valid, found.valid[i])
        limit = 1e-3 if dtype == jnp.float32 else 1e-9
        np.testing.assert_allclose(one.x, found.x[i], atol=limit)
        np.testing.assert_allclose(one.y, found.y[i], atol=limit)


def test_ten_calls_are_traced_once():
    traces = []

    def traced(*args):
        traces.append(1)
        return images.solve(*args)

    compiled = jax.jit(traced)
    for i in range(10):
        compiled(lens_of(jnp.float32, 1.0 + i / 10, 0.7, 0.1), jnp.float32(0.1), 0.0)
    assert len(traces) == 1


def test_python_numbers_and_no_core_give_the_same_images():
    lens = Lens(sie.SIE(1, 0.2, np.float32(0.1), 0, 0))
    plain = jax.jit(lambda *args: images.solve(*args, core=0))(lens, 0.02, 0)
    assert plain.x.dtype == jnp.float32 and plain.valid.sum() == 4
    assert np.isfinite(plain.magnification).all()
    assert np.isfinite(plain.x[:4]).all()
    soft = solve(jax.tree.map(jnp.float32, lens), jnp.float32(0.02), jnp.float32(0))
    np.testing.assert_allclose(plain.x, soft.x, atol=1e-6)


# --- curves ---------------------------------------------------------------------------


@pytest.mark.parametrize("g", [(0.0, 0.0), (0.05, -0.1)])
def test_det_a_vanishes_on_the_critical_curve(dtype, g):
    lens = lens_of(dtype, 1.2, 0.6, 0.7, 0.05, 0.02, *g)
    x, y = images.critical_curve(lens)
    limit = 2e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(
        1 / lens_module.magnification(lens, x, y, 0.0), 0, atol=limit
    )
    assert np.hypot(x[0] - x[-1], y[0] - y[-1]) < 1e-5


def test_an_open_critical_curve_is_nan_where_it_is_at_infinity(dtype):
    # closed for every |g| < 1; beyond, some directions have no critical point
    x, y = images.critical_curve(lens_of(dtype, 1.0, 0.8, 0.0, 0, 0, 1.2, 0.0))
    assert np.isnan(x).any() and np.isfinite(x).any()
    assert (np.isnan(x) == np.isnan(y)).all()


@pytest.mark.parametrize("g", [(0.0, 0.0), (0.03, -0.05)])
def test_crossing_the_caustic_changes_the_count_by_two_and_the_cut_by_one(x64, g):
    lens = lens_of(jnp.float64, 1.2, 0.6, 0.7, 0.05, 0.02, *g)
    centre = np.array([np.mean(a[:-1]) for a in images.cut(lens)])
    for curve, change in ((images.caustic(lens, 41), 2), (images.cut(lens, 41), 1)):
        other = np.stack(
            (images.cut if change == 2 else images.caustic)(lens, 2000), -1
        )
        for point in np.stack(curve, -1)[1:]:
            if distance(other, point) < 0.02:
                continue
            step = 1e-3 * (point - centre) / np.hypot(*(point - centre))
            inside, outside = (
                len(solved(jnp.float64, lens, point + k * step)) for k in (-1, 1)
            )
            assert inside - outside == change


def test_lenses_spread_over_devices_have_the_images_of_lenses_on_one():
    """Over a mesh as `jax.make_mesh` makes it, with axes of type Explicit."""
    ramp = jnp.linspace(0.0, 0.1, 4)
    mass = sie.SIE(1 + ramp, 0.2 + ramp, ramp, 0 * ramp, 0 * ramp)
    many = Lens(mass, Shear(ramp / 2, -ramp / 2)), 0.05 + ramp, 0.02 + ramp

    @jax.jit
    @jax.vmap
    def everything(lens, x, y):
        found = images.solve(lens, x, y)
        times = images.arrival_times(lens, found, x, y, 3000.0)
        return found, times, images.caustic(lens, 8), images.cut(lens, 8)

    mesh = jax.make_mesh((2,), ("lens",), devices=jax.devices()[:2])
    spread = jax.device_put(many, NamedSharding(mesh, PartitionSpec("lens")))
    alone, together = everything(*many), everything(*spread)
    with jax.set_mesh(mesh):
        jax.eval_shape(everything, *spread)
    for one, other in zip(*map(jax.tree.leaves, (alone, together)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)
