import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lensjax.learning import network
from lensjax.learning.network import Architecture

PAPER = Architecture()
SMALL = Architecture(size=18, bands=2, channels=(3, 4), kernel=3, dense=(7,), outputs=2)
TINY = SMALL._replace(size=10, channels=(3,))
ODD = SMALL._replace(size=27, channels=(2, 3, 4))  # maps of 25, 10 and 3 to be pooled
BOTH = pytest.mark.parametrize("convolution", network.CONVOLUTIONS)


@functools.cache
def setting(config, batch=3, dtype=jnp.float32):
    config = config._replace(convolution="tiles")

    @jax.jit
    def draw(key):
        shape = (batch, config.size, config.size, config.bands)
        images = jax.random.normal(jax.random.fold_in(key, 1), shape, dtype)
        return network.init(key, config, dtype), images

    return draw(jax.random.key(0))


def gradient(params, images, config):
    def squared(params):
        return (network.apply(params, images, config) ** 2).sum()

    return jax.grad(squared)(params)


def stacked(config, folds, batch):
    shape = (folds, batch, config.size, config.size, config.bands)
    keys = jax.random.split(jax.random.key(4), folds)
    params = jax.jit(jax.vmap(lambda key: network.init(key, config)))(keys)
    return params, jax.random.normal(jax.random.key(5), shape)


def reference(params, images):
    """The network as a textbook has it: convolution, bias, ReLU, pool."""
    x = images
    for name in sorted(k for k in params if k.startswith("conv")):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        axes = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)
        x = jnp.maximum(x + bias[None, None, None], jnp.zeros((), x.dtype))
        two = (1, 2, 2, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, two, two, "VALID")
    x = x.reshape(x.shape[0], -1)
    for i in range(1, n := sum(k.startswith("dense") for k in params)):
        x = x @ params[f"dense{i}"]["kernel"] + params[f"dense{i}"]["bias"][None]
        x = jnp.maximum(x, jnp.zeros((), x.dtype))
    return x @ params[f"dense{n}"]["kernel"] + params[f"dense{n}"]["bias"][None]


def assert_trees_close(ours, theirs, rtol):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * float(jnp.abs(b).max()))


def test_the_paper_has_a_13_13_16_cube_and_338211_parameters():
    params, images = setting(PAPER)
    assert network.validate(PAPER) == [30, 13]
    assert params["dense1"]["kernel"].shape == (13 * 13 * 16, 120)
    convolutions = (100 * 6 + 6) + (150 * 16 + 16)
    dense = (2704 * 120 + 120) + (120 * 84 + 84) + (84 * 5 + 5)
    assert network.count_parameters(params) == convolutions + dense == 338_211
    outputs = jax.jit(network.apply, static_argnums=2)(params, images, PAPER)
    assert outputs.shape == (3, 5) and outputs.dtype == jnp.float32


def test_parameters_start_uniform_within_one_over_root_fan_in():
    params, _ = setting(PAPER)
    fans = {"conv1": 100, "conv2": 150, "dense1": 2704, "dense2": 120, "dense3": 84}
    for name, fan in fans.items():
        for values in params[name].values():
            assert float(jnp.abs(values).max()) <= fan**-0.5
        spread = float(params[name]["kernel"].std())
        assert spread == pytest.approx((3 * fan) ** -0.5, rel=0.1)
    assert_trees_close(network.init(jax.random.key(0), PAPER), params, 1e-6)


@BOTH
@pytest.mark.parametrize("config", [PAPER, SMALL, ODD], ids=["paper", "small", "odd"])
def test_values_and_gradients_equal_the_textbook_network(config, convolution):
    config = config._replace(convolution=convolution)
    params, images = setting(config)
    target = jax.random.normal(jax.random.key(2), (3, config.outputs))

    def loss(run):
        return lambda p, x: jnp.mean((run(p, x) - target) ** 2)

    def ours(p, x):
        return network.apply(p, x, config)

    got = jax.jit(ours)(params, images)
    np.testing.assert_allclose(got, reference(params, images), rtol=2e-5, atol=2e-7)
    gradient = jax.jit(jax.grad(loss(ours), (0, 1)))(params, images)
    expected = jax.jit(jax.grad(loss(reference), (0, 1)))(params, images)
    assert_trees_close(gradient, expected, 2e-5)


def test_float64_agrees_to_twelve_digits():
    with jax.enable_x64(True):
        params, images = setting(SMALL, dtype=jnp.float64)

        def total(run):
            return lambda p: run(p, images).sum()

        def ours(p, x):
            return network.apply(p, x, SMALL)

        expected = jax.jit(jax.value_and_grad(total(reference)))(params)
        got = jax.jit(jax.value_and_grad(total(ours)))(params)
        assert got[0].dtype == jnp.float64
        assert_trees_close(got, expected, 1e-12)


@BOTH
def test_a_shifted_star_gives_a_shifted_map(convolution):
    pooled = {"tiles": network._tiles, "lax": network._lax}[convolution]
    kernel = jax.random.normal(jax.random.key(3), (5, 5, 1, 6))
    image = jnp.zeros((1, 64, 64, 1)).at[0, 30, 21, 0].set(1.0)
    moved = jnp.roll(image, (4, 10), (1, 2))
    one, other = pooled(image, kernel), pooled(moved, kernel)
    np.testing.assert_array_equal(jnp.roll(one, (2, 5), (1, 2)), other)
    # And the star shows the kernel itself, upside down: each pool keeps its largest.
    shown = jnp.flip(kernel[..., 0, :], (0, 1))
    pools = jnp.pad(shown, ((0, 1), (1, 0), (0, 0))).reshape(3, 2, 3, 2, 6)
    expected = one[0, 13:16, 8:11]
    np.testing.assert_allclose(expected, pools.max((1, 3)), rtol=1e-6)


@BOTH
def test_the_first_of_equal_pixels_takes_the_gradient(convolution):
    pooled = {"tiles": network._tiles, "lax": network._lax}[convolution]
    kernel = jnp.ones((1, 1, 1, 1))
    gradient = jax.grad(lambda x: pooled(x, kernel).sum())(jnp.ones((1, 4, 4, 1)))
    first = np.zeros((4, 4))
    first[::2, ::2] = 1
    np.testing.assert_array_equal(gradient[0, ..., 0], first)


def test_stacked_folds_equal_one_fold_after_the_other():
    params, images = stacked(SMALL, folds=3, batch=16)
    step = functools.partial(gradient, config=SMALL)
    together = jax.jit(jax.vmap(step))(params, images)
    alone = jax.jit(step)
    for i in range(3):
        fold, ours = jax.tree.map(lambda leaf, i=i: leaf[i], (params, together))
        assert_trees_close(ours, alone(fold, images[i]), 1e-5)


@pytest.mark.parametrize("batch", [7, 12])
def test_a_batch_of_any_size_is_its_images_one_by_one(batch):
    params, images = setting(TINY, batch)
    run = jax.jit(lambda x: network.apply(params, x, TINY))
    singles = [run(image[None])[0] for image in images]
    np.testing.assert_allclose(run(images), jnp.stack(singles), rtol=1e-5, atol=1e-7)


def test_vmap_over_images_alone_equals_a_batch():
    params, images = setting(TINY)
    run = jax.jit(lambda x: network.apply(params, x, TINY))
    rows = jax.vmap(lambda x: run(x[None])[0])(images)
    np.testing.assert_allclose(rows, run(images), rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(len(jax.devices()) < 2, reason="one device")
def test_folds_over_devices_equal_folds_on_one():
    count = len(jax.devices())
    mesh = jax.make_mesh((count,), ("fold",), (jax.sharding.AxisType.Auto,))
    params, images = stacked(TINY, folds=2 * count, batch=8)
    step = jax.vmap(functools.partial(gradient, config=TINY))
    fold = jax.P("fold")
    spread = jax.shard_map(step, mesh=mesh, in_specs=fold, out_specs=fold)
    expected = jax.jit(step)(params, images)
    assert_trees_close(jax.jit(spread)(params, images), expected, 1e-5)


def test_one_trace_serves_ten_calls():
    params, images = setting(SMALL)
    traces = []

    @jax.jit
    def run(p, x):
        traces.append(1)
        return network.apply(p, x, SMALL)

    for i in range(10):
        run(params, images + i)
    assert len(traces) == 1


@BOTH
def test_gradient_in_the_image_is_that_of_finite_differences(convolution):
    config = SMALL._replace(convolution=convolution)
    with jax.enable_x64(True):
        params, images = setting(config, dtype=jnp.float64)
        way = jax.random.normal(jax.random.key(6), images.shape, jnp.float64)

        @jax.jit
        def slope(x):
            return jax.grad(lambda x: network.apply(params, x, config).sum())(x)

        @jax.jit
        def total(x):
            return network.apply(params, x, config).sum()

        step = 1e-6
        measured = (total(images + step * way) - total(images - step * way)) / step / 2
        expected = jnp.vdot(slope(images), way)
        assert float(measured) == pytest.approx(float(expected), rel=1e-6)


def test_dropout_acts_only_with_a_key():
    config = TINY._replace(dropout=0.5, dense=(200, 100))
    params, images = setting(config)
    plain = network.apply(params, images, config)
    np.testing.assert_array_equal(
        plain, network.apply(params, images, config._replace(dropout=0.0))
    )
    keys = jax.random.split(jax.random.key(7), 400)

    def draw(key):
        return network.apply(params, images, config, key)

    drawn = jax.jit(lambda keys: lax.map(draw, keys))(keys)
    assert float(drawn.std(0).min()) > 0
    # Kept units are scaled up, so that only what ReLU bends is left of the mean shift.
    assert float((jnp.abs(drawn.mean(0) - plain) / drawn.std(0)).max()) < 0.3
    off = network.apply(params, images, config._replace(dropout=0.0), keys[0])
    np.testing.assert_array_equal(off, plain)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("config", [PAPER, SMALL], ids=["paper", "small"])
def test_a_broken_pixel_shows_in_its_own_row_only(config, value):
    params, images = setting(config)
    images = images.at[1, 7, 8, 1].set(value)
    outputs = jax.jit(lambda x: network.apply(params, x, config))(images)
    np.testing.assert_array_equal(jnp.isnan(outputs).any(-1), [False, True, False])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 14}, "a map of 5 x 5 pixels is too small .* give fewer channels"),
        ({"channels": (6, 16, 32, 64)}, "a map of 4 x 4 pixels is too small"),
        ({"kernel": 4}, "kernel must be odd, got 4"),
        ({"dropout": 1.0}, "dropout"),
        ({"convolution": "fft"}, "tiles, lax, got 'fft'"),
    ],
)
def test_an_impossible_architecture_says_why(wrong, message):
    with pytest.raises(ValueError, match=message):
        network.init(jax.random.key(0), PAPER._replace(**wrong))


@pytest.mark.parametrize("shape", [(3, 60, 64, 4), (3, 4, 64, 64), (64, 64, 4)])
def test_images_of_another_shape_are_refused(shape):
    params, _ = setting(PAPER)
    with pytest.raises(ValueError, match="bands last, got"):
        network.apply(params, jnp.zeros(shape), PAPER)
