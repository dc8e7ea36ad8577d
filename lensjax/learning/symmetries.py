"""The eight symmetries of a square image, and what they do to a lens's numbers."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.parameters import Space

COUNT = 8
# number = 4 transposed + 2 upside down + left to right; transposed at last
_SIGNS = {  # of a number where x -> -x, where y -> -y; its partner where x <-> y
    "x": (-1, 1, "y", 1),
    "y": (1, -1, "x", 1),
    "ex": (1, 1, "ex", -1),
    "ey": (-1, -1, "ey", 1),
    "theta_E": (1, 1, "theta_E", 1),
    "g1": (1, 1, "g1", -1),
    "g2": (-1, -1, "g2", 1),
    "source_x": (-1, 1, "source_y", 1),
    "source_y": (1, -1, "source_x", 1),
}


def of_images(images: Array, number: Array) -> Array:
    """Images (B, n, n, ...) each turned or mirrored by its own number (B,), 0 to 7."""

    def where(bit: int, changed: Array, images: Array) -> Array:
        asked = (number & bit) > 0
        asked = asked.reshape(-1, *[1] * (images.ndim - 1))
        return jnp.where(asked, changed, images)

    images = where(1, images[:, :, ::-1], images)
    images = where(2, images[:, ::-1], images)
    return where(4, images.swapaxes(1, 2), images)


def back(images: Array, number: int) -> Array:
    """The inverse of `of_images` for one number of all (B, n, n, ...)."""
    if number & 4:
        images = images.swapaxes(1, 2)
    if number & 2:
        images = images[:, ::-1]
    return images[:, :, ::-1] if number & 1 else images


@functools.cache
def matrices(space: Space) -> np.ndarray:
    """What the symmetries do to numbers of a space: (8, D, D), orthogonal.

    Numbers that are not turned (theta_E, or any function of it) stay.
    """
    names = [p.name for p in space]
    each = []
    for number in range(COUNT):
        matrix = np.eye(len(names), dtype=np.float32)
        for bit in (1, 2):
            if number & bit:
                signs = [_SIGNS[name][bit - 1] for name in names]
                matrix = np.diag(np.array(signs, np.float32)) @ matrix
        if number & 4:
            swap = np.zeros_like(matrix)
            for k, name in enumerate(names):
                _, _, partner, sign = _SIGNS[name]
                swap[k, names.index(partner)] = sign
            matrix = swap @ matrix
        each.append(matrix)
    return np.stack(each)
