"""Fits of many observations, one after the other.

Not by threads: two executions of this program at once wait for each other for ever on a
CPU of two cores (jaxlib 0.10.2, with and without asynchronous dispatch).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from lensjax.inference.lens_model import Fit, fit
from lensjax.inference.problem import DEFAULT, USUAL, Settings
from lensjax.inference.scene import Priors
from lensjax.observation import Observation


def fit_many(
    observations: Iterable[Observation | Callable[[], Observation | None]],
    settings: Settings = DEFAULT,
    priors: Priors = USUAL,
    seed: int = 0,
) -> Iterator[Fit | None]:
    """Fits of observations, in their order, as they come; arrays on the host.

    An observation may be a function that makes it when it is due, such as one that
    reads a file; None gives None.  Programs are compiled once for images of one shape,
    pixel scale and PSF size, and `alike` brings PSFs to few sizes.  A fit depends on
    seed and observation alone, not on the others.
    """

    def one(observation) -> Fit | None:
        if callable(observation):
            observation = observation()
        if observation is None:
            return None
        found = fit(alike(observation), settings, priors, seed)
        return jax.tree.map(np.asarray, found)

    return map(one, observations)


SIZES: Sequence[int] = (15, 21, 31, 43, 61, 85, 121)  # of PSFs [pixel]


def alike(observation: Observation) -> Observation:
    """The same with its PSF framed, or cut, to one of `SIZES`."""
    psf = np.asarray(observation.psf)
    k = psf.shape[0]
    size = next((s for s in SIZES if s >= k), SIZES[-1])
    if size >= k:
        psf = np.pad(psf, 2 * [((size - k) // 2,) * 2] + [(0, 0)])
    else:
        cut = (k - size) // 2
        psf = psf[cut : k - cut, cut : k - cut]
        psf = psf / psf.sum((0, 1))
    return observation._replace(psf=psf)
