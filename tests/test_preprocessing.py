import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import light
from lensjax.learning import preprocessing

N = 64
channels = jax.jit(lambda images: preprocessing.channels(images, 0.168))


def pixels():
    at = np.arange(N) - (N - 1) / 2
    return np.meshgrid(at, at)


def galaxy(x0=0.0, y0=0.0, total=4000.0, q=0.7, phi=0.6):
    """A lens galaxy [noise], its seeing in its softening."""
    x, y = pixels()
    one = light.sersic(jnp.asarray(x - x0), jnp.asarray(y - y0), 5.0, 3.0, q, phi, 2.0)
    return total * np.asarray(one)


def ring(radius=9.0, width=1.5, peak=8.0):
    x, y = pixels()
    return peak * np.exp(-(((np.hypot(x - 1, y + 2) - radius) / width) ** 2) / 2)


def image_of(rng, *parts):
    noise = rng.normal(size=(N, N, 4)) * np.array([0.5, 1, 2, 4])
    bands = sum(parts)[..., None] * np.array([0.5, 1, 2, 4])
    return jnp.asarray((bands + noise)[None], jnp.float32)


@pytest.mark.parametrize("place", [(0.0, 0.0), (3.3, -4.6)])
def test_a_smooth_galaxy_leaves_its_noise(rng, place):
    seen, *_ = channels(image_of(rng, galaxy(*place)))
    rest = preprocessing.COMPRESSED * np.sinh(np.asarray(seen[0, ..., 4:8]))
    x, y = pixels()
    far = np.hypot(x - place[0], y - place[1]) > 3
    assert 0.8 < rest[far].std() < 1.2
    assert abs(rest[far].mean()) < 0.1


def test_an_arc_stays_where_it_is(rng):
    x, y = pixels()
    half = ring() * (x - y > 2)
    with_arc, *_ = channels(image_of(rng, galaxy(1, -2), half))
    rest = preprocessing.COMPRESSED * np.sinh(np.asarray(with_arc[0, ..., 4:8])).mean(
        -1
    )
    bright = half > 6
    assert rest[bright].mean() > 0.6 * half[bright].mean()
    assert abs(rest[half < 0.01].mean()) < 0.5


def test_what_has_the_lens_colour_is_not_blue_and_what_has_not_is(rng):
    x, y = pixels()
    red = 6 * np.exp(-((x - 12) ** 2 + (y + 9) ** 2) / 8)
    image = np.array(image_of(rng, galaxy(), red)[0])
    blue = 6 * np.exp(-((x + 10) ** 2 + (y - 11) ** 2) / 8)
    image[..., 0] += 0.5 * blue  # in the first band alone
    seen, *_ = channels(jnp.asarray(image[None]))
    bluer = preprocessing.COMPRESSED * np.sinh(np.asarray(seen[0, ..., 8:]))
    assert bluer.shape[-1] == 3
    assert abs(bluer[red > 4].mean()) < 1
    assert bluer[blue > 4].mean() > 2


def test_one_band_has_no_colour(rng):
    image = image_of(rng, galaxy(), ring())[..., :1]
    seen, gains, noise = channels(image)
    assert seen.shape == (1, N, N, preprocessing.count(1))
    assert gains.max() > 3
    assert noise.shape == (1, 1)


def test_noise_is_that_of_the_sky_whatever_lies_in_a_corner(rng):
    image = np.array(image_of(rng, galaxy())[0])
    image[-9:, -9:] += 50 * rng.random((9, 9, 1))
    found = jax.jit(preprocessing.noise)(jnp.asarray(image))
    np.testing.assert_allclose(found, [0.5, 1, 2, 4], rtol=0.2)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_an_image_without_anything_in_it_is_finite(value):
    seen, _, noise = channels(jnp.full((1, N, N, 4), value, jnp.float32))
    assert jnp.isfinite(seen).all()
    assert (noise > 0).all()


def test_counts_have_no_unit(rng):
    # half of all numbers are squared in it: what is seen is in units of the noise
    image = image_of(rng, galaxy(), ring())
    seen, _, noise = channels(image)
    again, _, times = channels(1000 * image)
    np.testing.assert_allclose(again, seen, atol=2e-2)
    np.testing.assert_allclose(times, 1000 * noise, rtol=1e-5)


def test_images_of_a_batch_do_not_see_each_other(rng):
    some = jnp.concatenate([image_of(rng, galaxy()), image_of(rng, galaxy(2, 3))])
    together, *_ = channels(some)
    alone, *_ = channels(some[1:])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-3)
