import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import lens, sie
from lensjax.learning import matched_filter, symmetries
from lensjax.lens import Lens
from lensjax.shear import Shear

N, SCALE = 64, 0.168

gains = jax.jit(lambda rest, x, y: matched_filter.gains(rest, x, y, SCALE))


def arcs(theta_E, beta_x, beta_y, x0=0.0, y0=0.0):
    """A spot behind a round lens at (x0, y0), by the package's own lens."""
    at = (np.arange(3 * N) - (3 * N - 1) / 2) * SCALE / 3
    x, y = map(jnp.asarray, np.meshgrid(at, at))
    model = Lens(sie.SIE(theta_E, 0.0, 0.0, x0, y0), Shear(0.0, 0.0))
    u, v = lens.ray_shoot(model, x, y)
    off = (u - x0 - beta_x) ** 2 + (v - y0 - beta_y) ** 2
    spot = np.exp(-np.asarray(off) / (2 * 0.25**2))
    return spot.reshape(N, 3, N, 3).mean((1, 3))


def best(image, x=0.0, y=0.0, noise=0.0, rng=None):
    rest = np.stack([40 * image, 30 * image], -1)
    if rng is not None:
        rest = rest + noise * rng.normal(size=rest.shape)
    found = np.asarray(
        gains(jnp.asarray(rest, jnp.float32), np.float32(x), np.float32(y))
    )
    assert found.shape == (matched_filter.COUNT,)
    size, place = divmod(
        int(found.argmax()), matched_filter.COUNT // len(matched_filter.THETA_E)
    )
    return matched_filter.THETA_E[size], place


@pytest.mark.parametrize("theta_E", [0.7, 1.2, 1.9])
def test_the_best_template_tells_theta_E_and_the_side_of_the_source(theta_E, rng):
    image = arcs(theta_E, 0.3 * theta_E, 0.0)
    found, place = best(image, noise=1.0, rng=rng)
    assert abs(np.log(found / theta_E)) < 0.18  # two neighbours are 17 % apart
    assert place > 0
    angle = (place - 1) % matched_filter.ANGLES
    assert min(angle, matched_filter.ANGLES - angle) <= 1


def test_a_lens_off_the_middle_is_looked_at_where_it_is(rng):
    image = arcs(1.2, 0.3, 0.1, x0=4 * SCALE, y0=-3 * SCALE)
    centred = arcs(1.2, 0.3, 0.1)
    assert best(image, 4.0, -3.0) == best(centred)


@pytest.mark.parametrize("number", range(symmetries.COUNT))
def test_a_turned_image_has_the_gains_in_another_order(rng, number):
    rest = jnp.asarray(rng.normal(size=(N, N, 3)), jnp.float32)
    turned = symmetries.of_images(rest[None], jnp.array([number]))[0]
    zero = np.float32(0)
    before, after = gains(rest, zero, zero), gains(turned, zero, zero)
    order = matched_filter.orders()[number]
    assert sorted(order) == list(range(matched_filter.COUNT))
    np.testing.assert_allclose(after, before[order], atol=1e-4)


def test_light_that_is_missing_gains_nothing():
    image = -arcs(1.2, 0.3, 0.0)[..., None].repeat(2, -1)
    assert (
        float(
            gains(jnp.asarray(image, jnp.float32), np.float32(0), np.float32(0)).max()
        )
        < 0.05
    )
