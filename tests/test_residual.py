import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.learning import residual
from lensjax.learning.residual import Architecture

SMALL = Architecture(size=16, channels=3, facts=2, width=8, blocks=1, dense=8,
                     outputs=5)  # fmt: skip


def seen(rng, n=3, config=SMALL):
    shape = (n, config.size, config.size, config.channels)
    image = rng.normal(size=shape), rng.normal(size=(n, config.facts))
    return [jnp.asarray(a, jnp.float32) for a in image]


def varied(params, rng):
    """Parameters none of which is as it was begun: blocks begin as nothing."""
    return jax.tree.map(
        lambda a: a + 0.1 * jnp.asarray(rng.normal(size=a.shape), a.dtype), params
    )


def test_shapes(rng):
    params = residual.init(jax.random.key(0), SMALL)
    numbers, maps = residual.apply(params, *seen(rng), SMALL)
    assert numbers.shape == (3, 5)
    assert maps.shape == (3, 16, 16, 3)


def test_both_ways_to_convolve_are_the_same(rng):
    params = varied(residual.init(jax.random.key(0), SMALL), rng)
    image = seen(rng)
    slopes = []
    for how in ("shifts", "lax"):
        config = SMALL._replace(convolution=how)

        def total(params, config=config):
            numbers, maps = residual.apply(params, *image, config)
            return (numbers**2).sum() + (maps**2).sum()

        slopes.append(jax.jit(jax.grad(total))(params))
    for a, b in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(abs(b).max()))


def test_a_map_knows_where_a_pixel_is(rng):
    """What a pixel shows depends on what is near it, more than on what is far."""
    params = varied(residual.init(jax.random.key(0), SMALL), rng)
    image, facts = seen(rng, 1)

    def change(row, column):
        other = image.at[0, row, column].add(5.0)
        before = residual.apply(params, image, facts, SMALL)[1]
        after = residual.apply(params, other, facts, SMALL)[1]
        return np.asarray(abs(after - before)[0].sum(-1))

    moved = change(2, 13)
    assert moved[:4, 12:].mean() > 3 * moved[8:, :8].mean()


def test_folding_is_undone(rng):
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    folded = residual._folded(x, 4)
    assert folded.shape == (2, 2, 2, 48)
    np.testing.assert_array_equal(folded[1, 1, 0].reshape(4, 4, 3), x[1, 4:, :4])
    np.testing.assert_array_equal(residual._unfolded(folded, 4), x)


def test_images_alone_and_together_are_the_same(rng):
    params = varied(residual.init(jax.random.key(0), SMALL), rng)
    image, facts = seen(rng)
    together = residual.apply(params, image, facts, SMALL)
    alone = residual.apply(params, image[1:2], facts[1:2], SMALL)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-4, atol=1e-4)


def test_a_side_that_patches_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        residual.init(jax.random.key(0), SMALL._replace(size=20))


def test_images_of_another_shape_are_refused(rng):
    params = residual.init(jax.random.key(0), SMALL)
    image, facts = seen(rng)
    with pytest.raises(ValueError, match="16"):
        residual.apply(params, image[:, :8], facts, SMALL)


@pytest.mark.parametrize("how", ["shifts", "lax"])
def test_slopes_are_finite_differences(rng, how, dtype):
    config = SMALL._replace(convolution=how)
    params = varied(residual.init(jax.random.key(0), config, dtype), rng)
    image = [jnp.asarray(a, dtype) for a in seen(rng, 2)]
    along = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), dtype), params)

    def total(t):
        moved = jax.tree.map(lambda a, b: a + t * b, params, along)
        numbers, maps = residual.apply(moved, *image, config)
        return (numbers**2).mean() + (maps**2).mean()

    h = jnp.asarray(1e-6 if dtype == "float64" else 1e-3, dtype)
    zero = jnp.zeros((), dtype)
    slope = jax.jit(jax.grad(total))(zero)
    difference = (total(h) - total(-h)) / (2 * h)
    np.testing.assert_allclose(
        slope, difference, rtol=1e-6 if dtype == "float64" else 0.02
    )


def test_a_blank_image_has_finite_slopes_also_in_batches(rng):
    """Where all channels are equal their deviation, which is divided by, is zero."""
    params = residual.init(jax.random.key(0), SMALL)
    blank = jnp.zeros((2, 16, 16, 3)), jnp.zeros((2, 2))
    value, pull = jax.vjp(lambda p: residual.apply(p, *blank, SMALL), params)
    back = [jnp.asarray(rng.normal(size=(3, *a.shape)), a.dtype) for a in value]
    together = jax.jit(jax.vmap(lambda *b: pull(b)[0]))(*back)
    for k in range(3):
        alone = pull(tuple(b[k] for b in back))[0]
        for one, other in zip(*map(jax.tree.leaves, (alone, together)), strict=True):
            assert jnp.isfinite(one).all()
            np.testing.assert_allclose(other[k], one, rtol=1e-3, atol=1e-4)
