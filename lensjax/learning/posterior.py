"""The estimator that reads arcs and knows its error: a posterior instead of a point.

A residual network sees the image in units of its noise, the same without the lens's
smooth light, what is bluer than the lens, and what templates of arcs gain
(`preprocessing`).  It predicts a mixture of normal distributions of the lens's numbers,
ln theta_E among them, and of the source's place behind it; whether there is an arc; and
what each pixel shows.  It is trained by maximum likelihood on mocks whose theta_E has
nothing to do with the lens's light, turned and mirrored at random.
"""

import functools
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lensjax import parameters
from lensjax.learning import (
    matched_filter,
    mixture,
    preprocessing,
    residual,
    symmetries,
)
from lensjax.learning.estimator import Estimator, Scene, targets
from lensjax.learning.mixture import Mixture
from lensjax.learning.residual import Architecture
from lensjax.mocks import segmentation
from lensjax.mocks.system import System
from lensjax.parameters import Space
from lensjax.survey import Survey

COMPONENTS = 4
MOST_UNLIKE = 1.2  # log of a noise over the survey's: a network sees no more
DRAWS = 1000  # from which a posterior's percentiles are taken
# means and scales by which the numbers come near one
CENTRES = {"theta_E": 0.15}
SCALES = {"x": 0.4, "y": 0.4, "ex": 0.25, "ey": 0.25, "theta_E": 0.5, "g1": 0.05,
          "g2": 0.05, "source_x": 0.4, "source_y": 0.4}  # fmt: skip
GAIN = 5.0  # of the log of a template's gain: near one
MAPS = 30.0  # weight of what pixels show, beside the posterior


class Settings(NamedTuple):
    """What the network is and sees; hashable."""

    architecture: Architecture
    sky_sigma: tuple[float, ...]  # of the survey: what an image's own is compared with
    pixel_scale: float  # [arcsec]
    shear: bool = False  # whether it is predicted


class Prediction(NamedTuple):
    """What is known of images (B,)."""

    numbers: Mixture  # (B, K, D), of `whitened` numbers of `space`
    arc: Array  # (B,) logit of the probability that there is an arc
    parts: Array  # (B, n, n, 3) logits of what pixels show, see `mocks.segmentation`


class Seen(NamedTuple):
    """What the network looks at."""

    channels: Array  # (B, n, n, channel), half precision
    gains: Array  # (B, templates) of arcs, see `matched_filter`
    facts: Array  # (B, band) log of the noise over the survey's


def settings_of(survey: Survey, width: int, blocks: int, shear: bool) -> Settings:
    """Settings for a survey's images."""
    bands = len(survey.bands)
    dimensions = len(space_of(shear))
    architecture = Architecture(
        size=survey.image_size,
        channels=preprocessing.count(bands),
        facts=bands + matched_filter.COUNT,
        width=width,
        blocks=blocks,
        outputs=mixture.outputs(COMPONENTS, dimensions) + 1,
        convolution=residual.convolution_here(),
    )
    sky = tuple(survey.sky_sigma)
    return Settings(architecture, sky, float(survey.pixel_scale), shear)


def space_of(shear: bool) -> Space:
    """The numbers that are predicted."""
    lens = parameters.WITH_SHEAR if shear else parameters.WITHOUT_SHEAR
    return (*lens, *parameters.SOURCE)


def see(images: Array, settings: Settings) -> Seen:
    """What the network looks at of images (B, n, n, band) [counts]."""
    channels, gains, noise = preprocessing.channels(images, settings.pixel_scale)
    sky = jnp.asarray(settings.sky_sigma, noise.dtype)
    facts = jnp.clip(jnp.log(noise / sky[None]), -MOST_UNLIKE, MOST_UNLIKE)
    half = jnp.float16
    return Seen(channels.astype(half), gains.astype(half), facts)


def turned(seen: Seen, number: Array) -> Seen:
    """What is seen of images that are turned, each by its own number (B,) of eight."""
    order = jnp.asarray(matched_filter.orders())[number]
    return seen._replace(
        channels=symmetries.of_images(seen.channels, number),
        gains=jnp.take_along_axis(seen.gains, order, axis=1),
    )


def whitened(numbers: Array, space: Space) -> Array:
    """Numbers (..., D) of lens and source as the network predicts them, near one.

    theta_E by its logarithm, the source from the lens's centre.
    """
    at = {p.name: numbers[..., k] for k, p in enumerate(space)}
    at["theta_E"] = jnp.log(at["theta_E"])
    for axis in ("x", "y"):
        at[f"source_{axis}"] = at[f"source_{axis}"] - at[axis]
    return jnp.stack(
        [(at[p.name] - CENTRES.get(p.name, 0.0)) / SCALES[p.name] for p in space], -1
    )


def restored(white: Array, space: Space) -> Array:
    """The inverse of `whitened`."""
    at = {
        p.name: white[..., k] * SCALES[p.name] + CENTRES.get(p.name, 0.0)
        for k, p in enumerate(space)
    }
    at["theta_E"] = jnp.exp(at["theta_E"])
    for axis in ("x", "y"):
        at[f"source_{axis}"] = at[f"source_{axis}"] + at[axis]
    return jnp.stack([at[p.name] for p in space], -1)


def truth(systems: System, space: Space) -> Array:
    """The `whitened` numbers (B, D) of systems (B,)."""
    lens = targets(systems, space[:-2])
    source = jnp.stack([systems.beta_x, systems.beta_y], -1)
    return whitened(jnp.concatenate([lens, source], -1), space)


def predict(params: Any, seen: Seen, settings: Settings) -> Prediction:
    """Run the network once."""
    dimensions = len(space_of(settings.shear))
    channels = seen.channels.astype(seen.facts.dtype)
    gains = seen.gains.astype(seen.facts.dtype) / GAIN
    facts = jnp.concatenate([seen.facts, gains], -1)
    numbers, maps = residual.apply(params, channels, facts, settings.architecture)
    return Prediction(
        mixture.of_outputs(numbers[:, 1:], COMPONENTS, dimensions),
        numbers[:, 0],
        maps,
    )


def loss(
    params: Any, scenes: Scene, systems: System, settings: Settings, key: Array | None
) -> Array:
    """Minus the log likelihood (B,) of numbers, arcs and parts; turned by a key."""
    space = space_of(settings.shear)
    seen, maps, wanted = scenes.seen, scenes.parts, truth(systems, space)
    if key is not None:
        count = seen.facts.shape[0]
        number = jax.random.randint(key, (count,), 0, symmetries.COUNT)
        seen = turned(seen, number)
        matrix = jnp.asarray(symmetries.matrices(space), wanted.dtype)[number]
        wanted = jnp.einsum("bij,bj->bi", matrix, wanted)
        if maps is not None:
            maps = symmetries.of_images(maps, number)
    predicted = predict(params, seen, settings)
    total = -mixture.log_density(predicted.numbers, wanted)
    there = (systems.n_images > 0).astype(predicted.arc.dtype)
    total += optax.sigmoid_binary_cross_entropy(predicted.arc, there)
    if maps is not None:
        each = optax.sigmoid_binary_cross_entropy(
            predicted.parts, segmentation.planes(maps)
        )
        total += MAPS * each.mean((1, 2, 3))
    return total


def averaged(params: Any, seen: Seen, settings: Settings) -> Prediction:
    """Predictions of all eight symmetries of the images, turned back and pooled."""
    space = space_of(settings.shear)
    matrix = symmetries.matrices(space)
    each = []
    for number in range(symmetries.COUNT):
        every = jnp.full(seen.facts.shape[0], number)
        one = predict(params, turned(seen, every), settings)
        # the inverse of an orthogonal matrix is its transpose
        numbers = mixture.turned(one.numbers, jnp.asarray(matrix[number].T))
        maps = symmetries.back(one.parts, number)
        each.append(Prediction(numbers, one.arc, maps))
    return pooled(jax.tree.map(lambda *a: jnp.stack(a), *each))


def pooled(predicted: Prediction) -> Prediction:
    """One prediction (B,) of several (S, B), each as good as the next."""
    return Prediction(
        mixture.pooled(predicted.numbers),
        predicted.arc.mean(0),
        predicted.parts.mean(0),
    )


def draws(key: Array, predicted: Prediction, space: Space, n: int = DRAWS) -> Array:
    """Draws (n, B, D) of the numbers of a space, in its units."""
    return restored(mixture.draw(key, predicted.numbers, n), space)


def described(predicted: Prediction, space: Space) -> dict[str, Array]:
    """Arrays (B,) that a table has of posteriors, by name.

    The median of each number, with _p16, _p84 and _sigma; cov_a_b of two of the lens's;
    p_arc, the probability that there is an arc.
    """
    some = draws(jax.random.key(0), predicted, space)
    low, middle, high = jnp.quantile(some, jnp.array([0.16, 0.5, 0.84]), axis=0)
    about = some - some.mean(0)[None]
    covariance = jnp.einsum("sbi,sbj->bij", about, about) / DRAWS
    found = {}
    for k, p in enumerate(space):
        found[p.name] = middle[:, k]
        found[f"{p.name}_p16"], found[f"{p.name}_p84"] = low[:, k], high[:, k]
        found[f"{p.name}_sigma"] = jnp.sqrt(covariance[:, k, k])
    for (i, a), (j, b) in combinations(enumerate(space[:-2]), 2):
        found[f"cov_{a.name}_{b.name}"] = covariance[:, i, j]
    return found | {"p_arc": jax.nn.sigmoid(predicted.arc)}


def ln_theta_E(predicted: Prediction, space: Space) -> tuple[Array, Array]:
    """Mean and standard deviation (B,) of ln theta_E."""
    k = parameters.names(space).index("theta_E")
    scale, centre = SCALES["theta_E"], CENTRES["theta_E"]
    numbers = predicted.numbers
    return (
        mixture.mean(numbers)[:, k] * scale + centre,
        mixture.sigma(numbers)[:, k] * scale,
    )


@functools.cache
def estimator(settings: Settings) -> Estimator:
    """The estimator with these settings; the same one for the same settings."""
    space = space_of(settings.shear)
    lens = space[:-2]

    def mean(params: Any, seen: Seen) -> Array:
        numbers = predict(params, seen, settings).numbers
        return restored(mixture.mean(numbers), space)[..., : len(lens)]

    def loss_of(params, scenes, systems, weights, key):
        return loss(params, scenes, systems, settings, key)

    return Estimator(
        init=lambda key: residual.init(key, settings.architecture),
        loss=loss_of,
        predict=mean,
        space=lens,
        see=lambda images: see(images, settings),
        posterior=lambda params, seen: averaged(params, seen, settings),
        maps=True,
    )
