"""Derivatives of what the scene is made of: in batches, and of second order.

XLA's CPU backend has fused batches of float32 cotangents wrongly, and nothing but such
tests showed it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import mock, photometry, psf
from lensjax.learning import scaling
from lensjax.lens import Lens
from lensjax.light import Stamp
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import HSC

SURVEY = HSC._replace(image_size=24, bands=("G", "R"))


def gaussian(n, sigma, x=0.0, y=0.0):
    axis = np.arange(n) - (n - 1) / 2
    return np.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2))


def kernel(n=9):
    one = gaussian(n, 1.7)
    return np.stack([one, one], -1) / one.sum()


def blur(fine, kernel):
    return psf.blur_and_sample(fine, kernel, 2)


def moffat(fwhm, beta, e1, e2):
    return psf.moffat(fwhm, beta, e1, e2, 65, 0.168)


def arcs(lens, beta, image, kernel):
    source = Stamp(image, jnp.asarray([2.0, 0.5], image.dtype), 0.05)
    return mock.arcs(lens, *beta, source, kernel, SURVEY, 3)


def smooth_stamp():
    """Twice differentiable wherever its rays fall: linear between its pixels."""
    image = gaussian(41, 6.0)
    return np.stack([image, image**2], -1)


IMAGES = 0.1 + np.random.default_rng(3).random((2, 32, 32, 4))
FUNCTIONS = {
    "moffat": (moffat, (0.7, 3.0, 0.01, -0.02)),
    "blur_and_sample": (
        blur,
        (np.random.default_rng(1).random((64, 64, 2)), kernel()),
    ),
    "arcs": (
        arcs,
        (
            Lens(SIE(0.9, 0.2, -0.1, 0.02, -0.03), Shear(0.02, 0.01)),
            (0.11, 0.07),
            smooth_stamp(),
            kernel(),
        ),
    ),
    "moments": (photometry.moments, (50 * gaussian(48, 3.0, 0.4, -0.3),)),
    "aperture_flux": (
        functools.partial(photometry.aperture_flux, radius=8.0),
        (np.random.default_rng(2).random((40, 40, 4)),),
    ),
    **{
        f"scaled {name}": (functools.partial(scaling.scaled, scaling=name), (IMAGES,))
        for name in ("asinh", "standardize", "per_band", "mean_peak")
    },
}


def of(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def random_like(tree, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: scale * rng.normal(size=np.shape(a)), tree)


@functools.cache
def compiled(name):
    """Slopes of a random weighting of the results, by three kinds of programs."""
    function, _ = FUNCTIONS[name]

    def back(weights, arguments):
        return jax.vjp(function, *arguments)[1](weights)

    def bend(weights, arguments, direction):
        along = functools.partial(back, weights)
        return jax.jvp(along, (arguments,), (direction,))[1]

    return jax.jit(back), jax.jit(jax.vmap(back, (0, None))), jax.jit(bend)


def weights_of(name, seed):
    function, arguments = FUNCTIONS[name]
    shapes = jax.eval_shape(function, *of(arguments, jnp.float32))
    return random_like(shapes, seed)


def same(found, expected, tolerance):
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        one, other = np.asarray(one, float), np.asarray(other, float)
        size = max(np.abs(other).max(), 1e-12)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_several_cotangents_at_once_are_one_after_the_other(dtype, name):
    back, together, _ = compiled(name)
    arguments = of(FUNCTIONS[name][1], dtype)
    many = [of(weights_of(name, seed), dtype) for seed in range(5)]
    found = together(jax.tree.map(lambda *a: jnp.stack(a), *many), arguments)
    alone = jax.tree.map(lambda *a: np.stack(a), *[back(w, arguments) for w in many])
    same(found, alone, 1e-11 if dtype == jnp.float64 else 1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_are_differences_of_the_first(name):
    back, _, bend = compiled(name)
    weights, arguments = weights_of(name, 1), FUNCTIONS[name][1]
    direction = random_like(arguments, 2, 0.1)
    with jax.enable_x64(True):
        w, a, v = (of(tree, float) for tree in (weights, arguments, direction))
        found = bend(w, a, v)
        h = 1e-6
        ends = [
            back(w, jax.tree.map(lambda x, y, s=s: x + s * y, a, v)) for s in (h, -h)
        ]
        expected = jax.tree.map(lambda x, y: (x - y) / (2 * h), *ends)
        same(found, expected, 2e-5)
    single = bend(*(of(tree, jnp.float32) for tree in (weights, arguments, direction)))
    same(single, found, 5e-3)
