"""What is fitted and how: settings, pixels, the posterior with the light eliminated."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import render
from lensjax.inference import basis as _basis
from lensjax.inference import lens_light, scene
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import Ellipse, LensLight
from lensjax.inference.scene import Priors
from lensjax.observation import Observation
from lensjax.render import Pixels

MARGIN = 0.7  # [arcsec] around what is fitted that is traced
SIZES = (15, 21, 31, 43, 61, 85, 121)  # of PSFs [pixel]
FINE = 0.085  # [arcsec] rays are no farther apart


class Settings(NamedTuple):
    """How a fit is made; plain numbers, static under jit."""

    starts: int = 4
    steps: int = 10
    rounds: int = 2  # from the second on the light is fitted without the arcs
    draws: int = 64  # of each mode; of each chain where there are some
    chains: int = 4  # of each mode, of Hamiltonian Monte Carlo
    warmup: int = 60  # steps of each chain before its draws
    temperature: float = 1.0  # chi2 is divided by it, and by what `most_gain` says
    most_gain: float = 1000.0  # models are not exact: no arcs tell more than this
    spread: float = 2.0  # nor is their noise white: posteriors are wider by this
    mode: float = _basis.MODE  # of the lens's light: width of its residual modes
    radius: float = 4.0  # [arcsec] about the middle: farther pixels do not count
    supersampling: int = 0  # rays along a pixel; 0: as many as `FINE` asks for


DEFAULT, USUAL = Settings(), Priors()


def pixels_of(observation: Observation, settings: Settings = DEFAULT) -> Pixels:
    """How the arcs of an observation are rendered."""
    scale = float(observation.pixel_scale)
    rays = settings.supersampling or math.ceil(scale / FINE)
    return Pixels(observation.image.shape[0], scale, math.ceil(MARGIN / scale), rays)


def framed(observation: Observation, settings: Settings = DEFAULT) -> Observation:
    """The square that holds all pixels that count, the others in it masked.

    The PSF is framed, or cut, to one of `SIZES`, so that few programs serve all.
    """
    n, scale = observation.image.shape[0], float(observation.pixel_scale)
    cut = max(0, n // 2 - math.ceil(settings.radius / scale))
    inside = slice(cut, n - cut)
    image, variance = (a[inside, inside] for a in observation[:2])
    mask = np.asarray(observation.mask)[inside, inside]
    place = (np.arange(len(mask)) - (len(mask) - 1) / 2) * scale
    far = np.hypot(place[None], place[:, None]) > settings.radius
    psf = _of_size(np.asarray(observation.psf))
    return Observation(image, variance, psf, mask | far[..., None], scale)


def arrays_of(
    observation: Observation, settings: Settings, priors: Priors = USUAL
) -> tuple[Observation, Pixels, Priors]:
    """What is compiled for: arrays in JAX's default precision, and plain pixels.

    The observation is `framed`, and has no pixel scale: that is the pixels'.
    """
    observation = framed(observation, settings)
    pixels = pixels_of(observation, settings)
    precision = jnp.zeros(()).dtype
    planes = [jnp.asarray(a, precision) for a in observation[:3]]
    planes = Observation(*planes, jnp.asarray(observation.mask), None)
    return planes, pixels, jax.tree.map(lambda a: jnp.asarray(a, precision), priors)


def _of_size(psf: np.ndarray) -> np.ndarray:
    k = psf.shape[0]
    size = next((s for s in SIZES if s >= k), SIZES[-1])
    if size >= k:
        return np.pad(psf, 2 * [((size - k) // 2,) * 2] + [(0, 0)])
    cut = (k - size) // 2
    psf = psf[cut : k - cut, cut : k - cut]
    return psf / psf.sum((0, 1))


class Problem(NamedTuple):
    """A posterior of unconstrained numbers u (13,), the light being eliminated."""

    basis: Basis
    light: LensLight
    psf: Array
    pixels: Pixels
    temperature: Array | float  # chi2 is divided by it
    priors: Priors

    def arcs(self, u: Array) -> Array:
        """Image (n, n, band) of the lensed source of unit fluxes."""
        return scene.arcs(u, self.light.ellipse, self.psf, self.pixels)

    def residuals(self, u: Array) -> Array:
        """Departures from the priors in their widths."""
        return scene.prior_residuals(u, self.light.ellipse, self.priors)

    def wider(self, spread: float) -> "Problem":
        """With a likelihood that is wider by a factor."""
        return self._replace(temperature=self.temperature * spread**2)

    def expand(self, u: Array) -> descent.Quadratic:
        """The cost about u, and its derivatives."""
        bands = self.psf.shape[-1]
        return descent.quadratic(
            u,
            self.basis,
            lambda u: scene.traced(u, self.light.ellipse, self.pixels, bands),
            lambda seen: render.record(seen, self.psf, self.pixels),
            self.residuals,
            self.temperature,
        )

    def cost(self, u: Array) -> Array:
        """Minus the log of the posterior, up to a constant."""
        gain = descent.gain_of(self.arcs(u), self.basis)
        return (-gain / self.temperature + (self.residuals(u) ** 2).sum()) / 2


def prepared(
    observation: Observation,
    mode: float,
    arcs: Array | float = 0.0,
    near: Ellipse | None = None,
) -> tuple[LensLight, Basis]:
    """Fit the lens galaxy's light, and make ready what is eliminated.

    mode: width of the residual modes, as in `Settings`;
    arcs: (n, n, band) [counts] that are known, and taken off where the light is fitted;
    near: an ellipse to begin with, so that fewer steps do.
    """
    alone = observation._replace(image=observation.image - arcs)
    if near is None:
        light = lens_light.fit(alone, lens_light.start_of(alone))
    else:
        light = lens_light.fit(alone, near, lens_light.PASSES // 2)
    return light, _basis.of(observation, light, mode)


def chi2_without_arcs(observation: Observation, basis: Basis) -> Array:
    """chi2 of the best lens light alone, with what its priors add."""
    data = _basis.flat(observation.image) * basis.root
    return (data * basis.rest).sum()
