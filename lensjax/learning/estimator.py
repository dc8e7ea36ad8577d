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


class Estimator(NamedTuple):
    """A network and what it learns; static under jit.

    Two are the same where their functions are the same objects: what makes one keeps
    what it made (`functools.cache`), or every program is compiled anew.
    """

    # key -> parameters, a tree of arrays
    init: Callable[[Array], Any]
    # parameters, images (B, n, n, band) [counts], systems (B,), weights (len(space),)
    # and a key, None where nothing is learnt -> the loss of each system (B,)
    loss: Callable[[Any, Array, System, Array, Array | None], Array]
    # parameters, images (B, n, n, band) [counts] -> predictions (B, len(space))
    predict: Callable[[Any, Array], Array]
    space: Space = parameters.WITHOUT_SHEAR  # what the numbers of a prediction are


def targets(systems: System, space: Space = parameters.WITHOUT_SHEAR) -> Array:
    """What shall be predicted of systems (...): their lenses' numbers (..., n)."""
    return parameters.to_vector(Lens(systems.sie, systems.shear), space)
