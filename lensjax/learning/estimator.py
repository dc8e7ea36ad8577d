"""What is trained: a network, its loss and what its numbers mean, as plain functions.

A new kind is one file that makes an `Estimator`; steps, loops, grids and checkpoints
take any.  `paper_cnn` is the one of Schuldt et al. (2021).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from lensjax import parameters
from lensjax.lens import Lens
from lensjax.mocks.system import System
from lensjax.parameters import Space


class Scene(NamedTuple):
    """What is looked at to learn from mocks (B,)."""

    seen: Any  # a tree of (B, ...): images, or what an estimator's `see` made of them
    parts: Array | None = (
        None  # (B, n, n) maps of what pixels show, see `mocks.segmentation`
    )


def _images(images: Array) -> Array:
    return images


class Estimator(NamedTuple):
    """A network and what it learns; static under jit.

    Two are the same where their functions are the same objects: what makes one keeps
    what it made (`functools.cache`), or every program is compiled anew.
    """

    # key -> parameters, a tree of arrays
    init: Callable[[Array], Any]
    # parameters, scenes, systems (B,), weights (len(space),) and a key, None where
    # nothing is learnt -> the loss of each system (B,)
    loss: Callable[[Any, Scene, System, Array, Array | None], Array]
    # parameters, what is seen of images -> predictions (B, len(space))
    predict: Callable[[Any, Any], Array]
    space: Space = parameters.WITHOUT_SHEAR  # what the numbers of a prediction are
    # images (B, n, n, band) [counts] -> what the network looks at; nothing is learnt
    # in it, so that it can be kept
    see: Callable[[Array], Any] = _images
    # parameters, what is seen -> posteriors, see `posterior.Prediction`; None: points
    posterior: Callable[[Any, Any], Any] | None = None
    maps: bool = False  # whether it learns from maps of what pixels show


def targets(systems: System, space: Space = parameters.WITHOUT_SHEAR) -> Array:
    """What shall be predicted of systems (...): their lenses' numbers (..., n)."""
    return parameters.to_vector(Lens(systems.sie, systems.shear), space)
