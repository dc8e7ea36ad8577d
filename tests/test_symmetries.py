import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import lens, parameters, sie
from lensjax.learning import symmetries
from lensjax.lens import Lens
from lensjax.shear import Shear

SPACE = (*parameters.WITH_SHEAR, parameters.SOURCE_X, parameters.SOURCE_Y)
NUMBERS = range(symmetries.COUNT)


def image(vector, n=24):
    """A round spot behind a lens, ray by ray: nothing of the symmetries is in it."""
    at = dict(zip(parameters.names(SPACE), vector, strict=True))
    model = Lens(
        sie.SIE(*(at[name] for name in sie.SIE._fields)), Shear(at["g1"], at["g2"])
    )
    x = (np.arange(n) - (n - 1) / 2) * 0.2
    x, y = np.meshgrid(x, x)  # x along columns, y along rows
    u, v = lens.ray_shoot(model, jnp.asarray(x), jnp.asarray(y))
    return np.exp(-((u - at["source_x"]) ** 2 + (v - at["source_y"]) ** 2) / 0.1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("number", NUMBERS)
def test_a_turned_image_is_the_image_of_the_turned_numbers(number):
    vector = np.array([0.13, -0.21, 0.2, 0.11, 1.1, 0.04, -0.03, 0.25, 0.08])
    turned = symmetries.matrices(SPACE)[number].astype(float) @ vector
    seen = symmetries.of_images(jnp.asarray(image(vector))[None], jnp.array([number]))
    np.testing.assert_allclose(seen[0], image(turned), atol=1e-9)
    assert number == 0 or abs(image(turned) - image(vector)).max() > 0.1


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 6, 6, 3)])
def test_turning_back_undoes_it(rng, number, shape):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    turned = symmetries.of_images(images, jnp.full(2, number))
    np.testing.assert_array_equal(symmetries.back(turned, number), images)


def test_each_image_of_a_batch_is_turned_by_its_own_number(rng):
    images = jnp.asarray(rng.normal(size=(8, 5, 5, 2)), jnp.float32)
    together = symmetries.of_images(images, jnp.arange(8))
    for number in NUMBERS:
        alone = symmetries.of_images(images[number][None], jnp.array([number]))
        np.testing.assert_array_equal(together[number], alone[0])


def test_matrices_are_eight_and_a_group():
    made = symmetries.matrices(SPACE)
    assert len(np.unique(made, axis=0)) == 8
    for a in made:
        np.testing.assert_array_equal(a @ a.T, np.eye(len(SPACE)))
        for b in made:
            assert any((a @ b == c).all() for c in made)
