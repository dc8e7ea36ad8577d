import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import parameters, survey
from lensjax.learning import matched_filter, mixture, posterior, symmetries
from lensjax.learning.estimator import Scene
from lensjax.learning.posterior import Seen
from lensjax.mocks import segmentation
from lensjax.mocks.system import System
from lensjax.shear import Shear
from lensjax.sie import SIE

SETTINGS = posterior.settings_of(survey.HSC, 8, 1, shear=True)
SPACE = posterior.space_of(shear=True)
N = survey.HSC.image_size


def systems(n, rng):
    """Systems whose lens, source and number of images alone are looked at."""
    fields = {name: jnp.zeros(n) for name in System._fields}
    e = 0.6 * rng.uniform(-1, 1, (2, n)) / np.sqrt(2)
    x, y, beta_x, beta_y = 0.4 * rng.normal(size=(4, n))
    g = 0.05 * rng.normal(size=(2, n))
    theta_E = rng.uniform(0.5, 2, n)
    fields |= {
        "sie": SIE(*(jnp.asarray(a, jnp.float32) for a in (theta_E, *e, x, y))),
        "shear": Shear(*(jnp.asarray(a, jnp.float32) for a in g)),
        "beta_x": jnp.asarray(beta_x, jnp.float32),
        "beta_y": jnp.asarray(beta_y, jnp.float32),
        "n_images": jnp.asarray(rng.integers(0, 2, n) * 2, jnp.int32),
    }
    return System(**fields)


def seen(n, rng):
    channels = jnp.asarray(rng.normal(size=(n, N, N, 11)), jnp.float16)
    gains = jnp.asarray(rng.uniform(0, 5, (n, matched_filter.COUNT)), jnp.float16)
    facts = jnp.asarray(0.2 * rng.normal(size=(n, 4)), jnp.float32)
    return Seen(channels, gains, facts)


@pytest.fixture
def params(rng):
    """A network that says something: its last layers begin as next to nothing."""
    begun = posterior.estimator(SETTINGS).init(jax.random.key(3))
    return jax.tree.map(
        lambda a: a + 0.05 * jnp.asarray(rng.normal(size=a.shape), a.dtype), begun
    )


def turned(one: System, number: int) -> System:
    """The same systems seen mirrored or turned, by their definitions."""
    space = SPACE
    vector = posterior.restored(posterior.truth(one, space), space)
    vector = vector @ jnp.asarray(symmetries.matrices(space)[number]).T
    at = dict(zip(parameters.names(space), vector.T, strict=True))
    return one._replace(
        sie=SIE(*(at[name] for name in SIE._fields)),
        shear=Shear(at["g1"], at["g2"]),
        beta_x=at["source_x"],
        beta_y=at["source_y"],
    )


def test_numbers_near_one_stand_for_those_of_the_lens(rng):
    some = systems(50, rng)
    white = posterior.truth(some, SPACE)
    back = posterior.restored(white, SPACE)
    wanted = [some.sie.x, some.sie.y, some.sie.ex, some.sie.ey, some.sie.theta_E,
              *some.shear, some.beta_x, some.beta_y]  # fmt: skip
    np.testing.assert_allclose(back, jnp.stack(wanted, -1), rtol=1e-5, atol=1e-6)
    assert (abs(white) < 6).all()


def test_averaged_predictions_turn_with_the_image(rng, params):
    look = seen(2, rng)
    averaged = jax.jit(posterior.averaged, static_argnums=2)
    here = averaged(params, look, SETTINGS)
    for number in (1, 6):
        there = averaged(params, posterior.turned(look, jnp.full(2, number)), SETTINGS)
        matrix = symmetries.matrices(SPACE)[number]
        np.testing.assert_allclose(
            mixture.mean(there.numbers),
            mixture.mean(here.numbers) @ matrix.T,
            atol=2e-3,
        )
        np.testing.assert_allclose(there.arc, here.arc, atol=2e-3)
        maps = symmetries.of_images(here.parts, jnp.full(2, number))
        np.testing.assert_allclose(there.parts, maps, atol=2e-3)


def test_the_loss_of_a_turned_image_wants_turned_numbers(rng, params):
    """What training turns at random is the image and, with it, what is asked for."""
    look, some = seen(8, rng), systems(8, rng)
    maps = jnp.asarray(rng.integers(0, 8, (8, N, N)), jnp.uint8)
    key = jax.random.key(5)
    number = jax.random.randint(key, (8,), 0, symmetries.COUNT)
    loss = jax.jit(posterior.loss, static_argnums=3)
    asked = loss(params, Scene(look, maps), some, SETTINGS, key)
    for b in range(8):
        k = int(number[b])
        one = jax.tree.map(lambda a, b=b: a[b : b + 1], (look, maps, some))
        scene = Scene(
            posterior.turned(one[0], jnp.array([k])),
            symmetries.of_images(one[1], jnp.array([k])),
        )
        by_hand = loss(params, scene, turned(one[2], k), SETTINGS, None)
        np.testing.assert_allclose(asked[b], by_hand[0], rtol=2e-3)
    assert len(set(np.asarray(number).tolist())) > 2


def test_the_loss_is_the_log_likelihood_of_all_that_is_known(rng, params):
    look, some = seen(3, rng), systems(3, rng)
    maps = jnp.asarray(rng.integers(0, 8, (3, N, N)), jnp.uint8)
    predicted = posterior.predict(params, look, SETTINGS)
    found = posterior.loss(params, Scene(look, maps), some, SETTINGS, None)
    white = posterior.truth(some, SPACE)
    wanted = -np.asarray(mixture.log_density(predicted.numbers, white))
    p = 1 / (1 + np.exp(-np.asarray(predicted.arc, float)))
    there = np.asarray(some.n_images) > 0
    wanted -= np.log(np.where(there, p, 1 - p))
    p = 1 / (1 + np.exp(-np.asarray(predicted.parts, float)))
    bits = (
        np.asarray(maps)[..., None] & np.array([segmentation.LENS, segmentation.ARC, 4])
        > 0
    )
    wanted -= posterior.MAPS * np.log(np.where(bits, p, 1 - p)).mean((1, 2, 3))
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_a_table_has_the_percentiles_of_the_posterior(rng):
    """One normal distribution: x, ln theta_E and the rest by closed forms."""
    d = len(SPACE)
    mean, sigma = 0.3 * rng.normal(size=d), rng.uniform(0.1, 0.3, d)
    one = mixture.Mixture(
        jnp.zeros((1, 1)), jnp.asarray(mean[None, None], jnp.float32),
        jnp.asarray(np.diag(1 / sigma)[None, None], jnp.float32),
        jnp.asarray(-np.log(sigma).sum(), jnp.float32)[None, None],
    )  # fmt: skip
    predicted = posterior.Prediction(one, jnp.zeros(1), jnp.zeros((1, N, N, 3)))
    found = posterior.described(predicted, SPACE)
    scale, centre = posterior.SCALES, posterior.CENTRES
    names = parameters.names(SPACE)
    k = names.index("theta_E")
    for z, column in (
        (-0.9945, "theta_E_p16"),
        (0, "theta_E"),
        (0.9945, "theta_E_p84"),
    ):
        ln = (mean[k] + z * sigma[k]) * scale["theta_E"] + centre["theta_E"]
        np.testing.assert_allclose(found[column][0], np.exp(ln), rtol=0.03)
    ln = posterior.ln_theta_E(predicted, SPACE)
    wanted = mean[k] * scale["theta_E"] + centre["theta_E"], sigma[k] * scale["theta_E"]
    np.testing.assert_allclose(np.ravel(ln), wanted, rtol=1e-5)
    k = names.index("g1")
    np.testing.assert_allclose(found["g1_sigma"][0], sigma[k] * scale["g1"], rtol=0.08)
    np.testing.assert_allclose(found["cov_x_y"][0], 0, atol=0.005)
    # the source's place is told from the lens's: its own error and the lens's add up
    x, s = names.index("x"), names.index("source_x")
    both = np.hypot(sigma[x] * scale["x"], sigma[s] * scale["source_x"])
    np.testing.assert_allclose(found["source_x_sigma"][0], both, rtol=0.08)
    assert found["p_arc"][0] == 0.5


def test_estimators_of_the_same_settings_are_one():
    again = posterior.settings_of(survey.HSC, 8, 1, shear=True)
    assert posterior.estimator(again) is posterior.estimator(SETTINGS)
    assert parameters.names(posterior.estimator(SETTINGS).space) == parameters.names(
        parameters.WITH_SHEAR
    )


def test_what_is_seen_of_a_turned_image_is_what_is_seen_turned(rng):
    """The lens's light, its colour and the templates' gains have no handedness."""
    x = np.arange(N) - (N - 1) / 2
    u, v = x[None] - 1.3, x[:, None] + 2.2
    galaxy = 40 * np.exp(-np.sqrt(u**2 + 1.5 * v**2 + 0.6 * u * v) / 4)
    arc = 3 * np.exp(-((np.hypot(u, v) - 8) ** 2) / 4) * (u - v > 3)
    image = galaxy[..., None] * np.array([0.2, 1, 2, 3]) + arc[..., None]
    image = image + np.array(survey.HSC.sky_sigma) * rng.normal(size=image.shape)
    images = jnp.asarray(image[None], jnp.float32)
    see = jax.jit(lambda images: posterior.see(images, SETTINGS))
    here = see(images)
    for number in range(1, symmetries.COUNT):
        one = jnp.array([number])
        there, wanted = (
            see(symmetries.of_images(images, one)),
            posterior.turned(here, one),
        )
        np.testing.assert_allclose(there.facts, wanted.facts, atol=1e-4)
        np.testing.assert_allclose(there.channels, wanted.channels, atol=0.02)
        np.testing.assert_allclose(there.gains, wanted.gains, atol=0.05)
