"""Fits: light, what is eliminated, descent and draws, each against something else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import inference, noise, parameters, psf, render
from lensjax.inference import basis as bases
from lensjax.inference import lens_light, posterior, scene
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference.lens_light import Ellipse
from lensjax.inference.problem import Problem, Settings, framed, pixels_of, prepared
from lensjax.lens import Lens
from lensjax.light import MultiGaussian, Sersic
from lensjax.noise import Noise
from lensjax.observation import Observation
from lensjax.shear import Shear
from lensjax.sie import SIE

N, SCALE, BANDS = 36, 0.2, 2
TRUTH = Lens(SIE(1.1, 0.15, -0.1, 0.03, -0.02), Shear(0.02, -0.03))
SETTINGS = Settings(radius=3.6, starts=3, draws=48, most_gain=1e5)


@functools.cache
def kernel():
    with jax.enable_x64(False):
        each = [psf.moffat(f, 3.0, 0.0, 0.0, 21, SCALE) for f in (0.7, 0.6)]
        return np.asarray(jnp.stack(each, -1))


@functools.cache
def mock(arcs=True, seed=0):
    """A real-looking lens: a cuspy galaxy, two bands, noise of sky and photons."""
    with jax.enable_x64(False):
        return single(arcs, seed)


def single(arcs, seed, brightness=1.0):
    pixels = render.Pixels(N, SCALE, 10, 6)
    galaxy = Sersic(np.array([900.0, 1500.0]), 0.9, 3.5, 0.12, -0.05, 0.03, -0.02)
    flux = brightness * np.array([40.0, 25.0])
    source = Sersic(flux, 0.2, 1.2, 0.2, 0.1, 0.14, 0.05)
    image = jax.jit(render.unlensed, static_argnums=2)(galaxy, kernel(), pixels)
    if arcs:
        lensed = jax.jit(render.lensed, static_argnums=3)
        image = image + lensed(source, TRUTH, kernel(), pixels)
    sky = Noise(np.full(BANDS, 0.08**2, np.float32), np.full(BANDS, 3000, np.float32))
    noisy = noise.sample(jax.random.key(seed), sky, image)
    variance = noise.variance(sky, image)
    blank = np.zeros((N, N, BANDS), bool)
    return Observation(np.asarray(noisy), np.asarray(variance), kernel(), blank, SCALE)


def test_gaussians_are_seen_as_light_renders_them():
    ellipse = Ellipse(*(np.float32(v) for v in (0.07, -0.04, 0.3, -0.2)))
    found = jax.jit(lens_light.gaussians, static_argnums=(2, 3))(
        ellipse, jnp.asarray(kernel()), N, SCALE
    )
    widths = lens_light.widths(SCALE)
    pixels = render.Pixels(N, SCALE, 10, 8)
    for k in (4, 7, 9):  # what no ray misses, and what the frame holds
        flux = np.ones((1, BANDS))
        source = MultiGaussian(flux, widths[k : k + 1], 0.3, -0.2, 0.07, -0.04)
        expected = render.unlensed(source, jnp.asarray(kernel()), pixels)
        peak = float(expected.max())
        inside = slice(5, -5)
        off = np.abs(found[k] - expected)[inside, inside].max()
        assert off < 2e-3 * peak, (k, off / peak)


def test_the_light_of_a_galaxy_is_found_and_arcs_move_it_little():
    def fitted(*planes):
        data = Observation(*planes, SCALE)
        return lens_light.fit(data, lens_light.start_of(data))

    compiled = jax.jit(fitted)
    alone = np.asarray(mock(arcs=False).image)
    for arcs, centre, shape in ((False, 0.005, 0.01), (True, 0.08, 0.12)):
        found = compiled(*mock(arcs=arcs)[:4])
        x, y, ex, ey = (float(a) for a in found.ellipse)
        assert np.hypot(x - 0.03, y + 0.02) < centre
        assert np.hypot(ex - 0.12, ey + 0.05) < shape
        r = np.hypot(*np.meshgrid(*[(np.arange(N) - (N - 1) / 2) * SCALE] * 2))
        for band in range(BANDS):
            core = found.image[..., band][r < 0.5].sum()
            assert core == pytest.approx(alone[..., band][r < 0.5].sum(), rel=0.1)


@functools.cache
def problem():
    """The posterior of a mock in double precision, and a place beside the truth."""
    data = framed(mock(), SETTINGS)
    image, variance, kernels = (jnp.asarray(a, float) for a in data[:3])
    data = data._replace(image=image, variance=variance, psf=kernels)
    found, basis = jax.jit(
        lambda d: prepared(d._replace(pixel_scale=SCALE), SETTINGS.mode)
    )(data._replace(pixel_scale=None))
    pixels = pixels_of(data, SETTINGS)
    priors = inference.Priors()
    u = jnp.asarray(
        [0.05, 0.1, -0.05, 0.01, 0.01, 0.01, 0, 0.12, 0.06, -1.5, -0.9, 0.1, 0.05]
    )
    return Problem(basis, found, data.psf, pixels, 1.0, priors), data, u


def test_what_arcs_gain_is_that_of_least_squares_with_everything(x64):
    """Lens light, modes and source solved for at once, by numpy, priors as rows."""
    task, data, u = problem()
    arcs = task.arcs(u)
    gain = descent.gain_of(arcs, task.basis)
    psf_, e, scale = data.psf, task.light.ellipse, SCALE

    def galaxy(*ellipse):
        each = lens_light.gaussians(Ellipse(*ellipse), psf_, N, scale)
        return (each * task.light.flux[:, None, None]).sum(0)

    h = 1e-4
    columns = list(lens_light.gaussians(e, psf_, N, scale)) + [jnp.ones((N, N, BANDS))]
    priors = [0.0] * len(columns)
    steps = (bases.SHIFT, bases.SHIFT, bases.ELLIPTICITY, bases.ELLIPTICITY)
    for k, width in enumerate(steps):
        up, down = (np.array(e) + s * h * np.eye(4)[k] for s in (1, -1))
        columns.append((galaxy(*up) - galaxy(*down)) / (2 * h) * width)
        priors.append(1.0)
    modes = bases.modes(task.light, scale) * bases.MODE
    columns += list(modes)
    priors += [1.0] * len(modes)
    expected = 0.0
    for band in range(BANDS):
        root = np.asarray(task.basis.root[band])
        a = np.stack([np.asarray(c)[..., band].ravel() * root for c in columns], -1)
        size = np.maximum(np.linalg.norm(a, axis=0), 1e-30)
        rows = np.diag(np.where(np.array(priors) > 0, 1, size / bases.FREE))
        y = np.asarray(data.image)[..., band].ravel() * root
        y = np.concatenate([y, np.zeros(len(rows))])
        without = np.concatenate([a, rows])
        source = np.asarray(arcs)[..., band].ravel() * root
        with_source = np.column_stack([without, [*source, *np.zeros(len(rows))]])
        chi2 = [
            ((y - m @ np.linalg.lstsq(m, y, rcond=None)[0]) ** 2).sum()
            for m in (without, with_source)
        ]
        expected += chi2[0] - chi2[1]
    assert expected > 300
    assert float(gain) == pytest.approx(expected, rel=1e-4)


def test_the_slope_of_the_cost_is_that_of_finite_differences(x64):
    task, _, u = problem()
    cost = jax.jit(task.cost)
    at = jax.jit(task.expand)(u)
    assert float(at.cost) == pytest.approx(float(cost(u)), rel=1e-9)
    h = 1e-5
    numeric = [(cost(u + h * d) - cost(u - h * d)) / (2 * h) for d in np.eye(13)]
    size = np.abs(numeric).max()
    np.testing.assert_allclose(at.gradient, numeric, rtol=1e-4, atol=1e-5 * size)
    values = np.linalg.eigvalsh(at.hessian)
    assert values.min() > 0.5  # priors hold every direction


def test_the_likelihood_is_that_of_the_fit_with_its_slope(x64):
    task, data, u = problem()
    ready = inference.prepare(data, SETTINGS)
    log_p = jax.jit(lambda v: inference.log_likelihood(v, ready))
    cost = jax.jit(lambda u: task.cost(u) - (task.residuals(u) ** 2).sum() / 2)
    places = [u, u + 0.02, u - 0.01]
    vectors = [scene.physical(p, task.light.ellipse) for p in places]
    ours = np.array([log_p(v) for v in vectors])
    theirs = np.array([-cost(p) for p in places])
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-6)
    log_posterior = jax.jit(lambda u: inference.log_posterior(u, ready))
    with_priors = np.array([log_posterior(p) + task.cost(p) for p in places])
    np.testing.assert_allclose(with_priors, with_priors[0], rtol=1e-6)
    # absolutely: chi2 of the best light, and less with arcs
    assert -2 * ours[0] < float(ready.chi2)
    along = np.random.default_rng(1).normal(size=13) / 10
    slope = jax.jit(jax.grad(log_p))(vectors[0]) @ along
    h = 1e-6
    up, down = (log_p(vectors[0] + s * h * along) for s in (1, -1))
    assert float(slope) == pytest.approx(float((up - down) / (2 * h)), rel=1e-4)


def test_slopes_of_the_posterior_come_in_batches_round_lenses_too():
    """Round, without shear, in float32; against float64 one by one."""
    # round, concentric, without shear: theta_E, the source's place, radius and index
    at = [0.1, 0, 0, 0, 0, 0, 0, 0.12, 0.06, -1.6, -1.4, 0, 0]

    def slopes(batched):
        ready = inference.prepare(mock(), SETTINGS)
        slope = jax.grad(lambda u: inference.log_posterior(u, ready))
        places = jnp.asarray(at)[None] + jnp.asarray([0.0, 0.01, -0.01])[:, None]
        if batched:
            return np.asarray(jax.jit(jax.vmap(slope))(places))
        one = jax.jit(slope)
        return np.stack([one(place) for place in places])

    found = slopes(batched=True)
    with jax.enable_x64(True):
        expected = slopes(batched=False)
    assert found.dtype == np.float32 and expected.dtype == np.float64
    size = np.abs(expected).max(0)
    np.testing.assert_allclose(found / size, expected / size, atol=0.02)


def differentiable(v):
    """What a fit differentiates, of a vector, at round lenses and light; N is 20."""
    e, size = Ellipse(*v[:4]), 20
    kernels = jnp.asarray(kernel(), v.dtype)
    rows = lens_light.gaussians(e, kernels, size, SCALE)
    galaxy = lens_light.LensLight(e, rows[:, 0, 0], rows[0, 0, 0], rows[6] * 100)
    pixels = render.Pixels(size, SCALE, 5, 3)
    return {
        "gaussians": rows,
        "galaxy": lens_light.galaxy(
            e, v[:11, None] * jnp.ones((1, BANDS)), kernels, size, SCALE
        ),
        "modes": bases.modes(galaxy, SCALE),
        "arcs": scene.arcs(v[4:], e, kernels, pixels),
        "priors": scene.prior_residuals(v[4:], e, inference.Priors()),
        "physical": scene.physical(v[4:], e),
        "unconstrained": scene.unconstrained(scene.physical(v[4:], e), e),
    }


# the light's centre on a pixel's, everything round: where angles have no meaning
ROUND = [SCALE / 2, SCALE / 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.05, -1.6, -1, 0, 0]


def test_derivatives_are_finite_differences_and_batches_a_loop_of_them():
    """At a singular place; float32 batches of cotangents against float64 rows."""
    rng = np.random.default_rng(3)
    kernel()  # made before anything is traced
    shapes = jax.eval_shape(differentiable, jnp.zeros(17))
    many = jax.tree.map(lambda a: rng.normal(size=(6, *a.shape)), shapes)

    def back(weights, v):
        return jax.vjp(differentiable, v)[1](weights)[0]

    batch = jax.jit(jax.vmap(back, (0, None)))
    found = batch(jax.tree.map(jnp.float32, many), jnp.asarray(ROUND, jnp.float32))
    with jax.enable_x64(True):
        v, row, h = jnp.asarray(ROUND), jax.jit(back), 1e-7  # a core is small
        along = rng.normal(size=17) / 4
        values = jax.jit(differentiable)
        up, down = values(v + h * along), values(v - h * along)
        change = jax.tree.map(lambda a, b: (a - b) / (2 * h), up, down)
        truth = []
        for k in range(6):
            weights = jax.tree.map(lambda a, k=k: jnp.asarray(a[k]), many)
            truth.append(row(weights, v))
            products = jax.tree.map(lambda w, c: (w * c).sum(), weights, change)
            expected = sum(jax.tree.leaves(products))
            assert truth[k] @ along == pytest.approx(float(expected), rel=1e-3)
    size = np.abs(truth).max()
    np.testing.assert_allclose(found, np.stack(truth), rtol=2e-3, atol=1e-4 * size)


def test_the_slope_of_the_gain_comes_in_batches_too(x64):
    task, _, u = problem()
    places = u[None] + 0.01 * jnp.asarray(np.random.default_rng(0).normal(size=(3, 13)))
    slopes = jax.jit(jax.vmap(jax.grad(task.cost)))(places)
    expand = jax.jit(task.expand)
    rows = np.stack([expand(p).gradient for p in places])
    np.testing.assert_allclose(slopes, rows, rtol=1e-4, atol=1e-5 * np.abs(rows).max())


def test_a_descent_never_goes_up_and_ends_where_the_slope_is_nil():
    """Of Rosenbrock's valley as a sum of squares."""

    def expand(u):
        def rest(u):
            return jnp.stack([10 * (u[1] - u[0] ** 2), 1 - u[0]])

        r, j = rest(u), jax.jacfwd(rest)(u)
        cost = (r**2).sum() / 2
        return descent.Quadratic(cost, j.T @ r, j.T @ j, -2 * cost, r[:1])

    start = jnp.asarray([-1.2, 1.0])
    ends = [jax.jit(descent.descend, static_argnums=(1, 2))(start, expand, n)
            for n in (5, 60)]  # fmt: skip
    costs = [float(expand(start).cost), *(float(end.at.cost) for end in ends)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < descent.ENOUGH
    np.testing.assert_allclose(ends[1].u, 1, atol=0.02)


def test_a_wider_likelihood_leaves_the_priors_as_they_are(x64):
    task, _, u = problem()
    prior = (task.residuals(u) ** 2).sum() / 2
    cost = [float(t.cost(u) - prior) for t in (task, task.wider(3.0))]
    assert cost[0] == pytest.approx(9 * cost[1], rel=1e-9)


def test_laplaces_evidence_of_a_normal_is_its_integral():
    precision = jnp.asarray([[4.0, 1.0], [1.0, 9.0]])
    zero = jnp.zeros(2)
    at = descent.Quadratic(jnp.asarray(3.0), zero, precision, zero[0], zero)
    integral = np.log(2 * np.pi) - np.log(35) / 2 - 3.0
    found = float(posterior.laplace(at)) + np.log(2 * np.pi)
    assert found == pytest.approx(integral, rel=1e-5)


def test_draws_of_a_normal_have_its_evidence_and_quantiles():
    k = 5
    rng = np.random.default_rng(0)
    a = rng.normal(size=(k, k))
    precision = jnp.asarray(a @ a.T * 4 + 30 * np.eye(k), jnp.float32)
    mean = jnp.asarray(rng.normal(size=k), jnp.float32)

    def cost(u):
        return 0.5 * (u - mean) @ precision @ (u - mean) + 3.0

    at = descent.Quadratic(cost(mean), 0 * mean, precision, 0 * mean[0], mean[:1])
    mode = descent.State(mean, at, mean[0])
    draws = posterior.of_mode(jax.random.key(1), mode, cost, 4000)
    _, log_det = np.linalg.slogdet(np.asarray(precision) / (2 * np.pi))
    assert float(draws.log_evidence) == pytest.approx(-3.0 - log_det / 2, abs=0.05)
    weight = jnp.exp(draws.log_weight)
    assert 1 / (weight**2).sum() > 2000
    low, middle, high = posterior.quantiles(draws.u, weight, (0.16, 0.5, 0.84))
    sigma = np.sqrt(np.diag(np.linalg.inv(precision)))
    np.testing.assert_allclose(middle, mean, atol=0.1 * sigma.max())
    np.testing.assert_allclose((high - low) / 2, 0.9945 * sigma, rtol=0.1)


def test_a_mode_found_twice_counts_once():
    u = jnp.asarray([[0.0, 0.0], [3.0, 0.0], [0.01, 0.0]])
    hessian = jnp.stack([jnp.eye(2)] * 3)
    at = descent.Quadratic(u[:, 0], u, hessian, u[:, 0], u)
    found = posterior.distinct(descent.State(u, at, u[:, 0]))
    assert found.tolist() == [True, True, False]


def test_unconstrained_numbers_stand_for_lenses():
    ellipse = Ellipse(*jnp.asarray([0.03, -0.02, 0.1, 0.2]))
    u = jax.random.normal(jax.random.key(0), (200, 13)) * 3
    physical = scene.physical(u, ellipse)
    named = dict(zip(scene.NAMES, physical.T, strict=True))
    assert (named["theta_E"] > 0).all() and (named["radius"] > 0).all()
    assert (jnp.hypot(named["ex"], named["ey"]) < 1).all()
    assert ((named["n"] >= 0.4) & (named["n"] <= 4.4)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mock_is_fitted_within_its_errors(seed):
    found = inference.fit(mock(seed=seed), SETTINGS)
    truth = [*parameters.to_vector(TRUTH, parameters.WITH_SHEAR), 0.14, 0.05]
    sigma = np.sqrt(np.diag(found.covariance))
    pull = (np.asarray(found.median)[:9] - truth) / np.maximum(sigma[:9], 1e-3)
    assert abs(float(found.median[4]) - 1.1) < 0.02
    assert np.abs(pull).max() < 6 and np.sqrt((pull**2).mean()) < 2.5, pull
    assert found.gain[0] > 1000 and 0.8 < found.chi2[0] < 1.2
    # radius and index of the source make up for flux
    np.testing.assert_allclose(found.flux[0], [40, 25], rtol=0.35)
    assert found.weight.sum() == pytest.approx(1, abs=1e-3)
    assert (found.p16 <= found.median).all() and (found.median <= found.p84).all()


def test_a_galaxy_without_arcs_gains_little():
    found = inference.fit(mock(arcs=False, seed=2), SETTINGS)
    assert found.gain[0] < 60


def test_modes_in_single_precision_are_those_in_double():
    """Within a tenth of the posterior's widths."""
    found = inference.fit(mock(), SETTINGS)
    with jax.enable_x64(True):
        double = inference.fit(mock(), SETTINGS)
    assert double.modes.dtype == np.float64 and found.modes.dtype == np.float32
    sigma = np.sqrt(np.diag(double.covariance))
    off = (np.asarray(found.modes[0], float) - np.asarray(double.modes[0])) / sigma
    assert abs(off).max() < 0.1, off
    assert float(found.gain[0]) == pytest.approx(float(double.gain[0]), rel=0.02)
