"""From an observation to a lens model with errors, without a hand.

    light    the lens galaxy's: Gaussians, residual modes      lens_light, basis
    starts   templates of arcs held against what is left       search
    modes    Levenberg-Marquardt from each start               levenberg_marquardt
    again    light without these arcs, kept if the cost falls
    draws    Laplace, weighted by the likelihood               posterior

One observation per call; all of it is compiled once for images of a shape.  Galaxies
beside the lens are not told from images of the source yet: mask them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax.inference import basis as _basis
from lensjax.inference import lens_light, posterior, scene, search
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import LensLight
from lensjax.inference.scene import Priors
from lensjax.observation import Observation
from lensjax.render import Pixels

WIDEST = 8  # pixels around an image that are traced
FINE = 0.08  # [arcsec] pixels below that need one ray each, others three to a side


class Settings(NamedTuple):
    """How a fit is made; plain numbers, static under jit."""

    starts: int = 4
    steps: int = 10
    rounds: int = 2  # from the second on the light is fitted without the arcs
    draws: int = 64  # of each mode
    temperature: float = 1.0  # chi2 is divided by it: models are not exact
    mode: float = _basis.MODE  # of the lens's light: width of its residual modes
    radius: float = 4.0  # [arcsec] about the middle: farther pixels do not count
    supersampling: int = 0  # rays along a pixel; 0: by the pixels' size, see `FINE`


class Fit(NamedTuple):
    """What a fit found; numbers are those of `scene.SPACE`."""

    median: Array  # (13,) posterior of all modes together
    p16: Array
    p84: Array
    covariance: Array  # (13, 13)
    modes: Array  # (mode, 13) the lowest place of each, the most likely first
    probability: Array  # (mode,) of each, 0 for a mode found again
    gain: Array  # (mode,) what the arcs take off chi2
    flux: Array  # (mode, band) of the source [counts]
    chi2: Array  # (mode,) reduced, over all pixels that count
    effective: Array  # () equal draws that the weighted ones are worth
    draws: Array  # (mode * draw, 13)
    weight: Array  # (mode * draw,) of each, sum 1
    light: LensLight


DEFAULT, USUAL = Settings(), Priors()


def pixels_of(observation: Observation, settings: Settings = DEFAULT) -> Pixels:
    """How the arcs of an observation are rendered."""
    scale = float(observation.pixel_scale)
    rays = settings.supersampling or (1 if scale < FINE else 3)
    margin = min(observation.psf.shape[0] // 2, WIDEST)
    return Pixels(observation.image.shape[0], scale, margin, rays)


def fit(
    observation: Observation,
    settings: Settings = DEFAULT,
    priors: Priors = USUAL,
    seed: int = 0,
) -> Fit:
    """Fit an SIE with shear and a Sersic source to an observation.

    Parameters
    ----------
    observation : Observation
        One object, its lens galaxy within 1 arcsec of the middle, any bands.
    settings, priors
        See `Settings` and `lensjax.inference.scene.Priors`.
    seed : int
        Of the draws.

    Returns
    -------
    Fit
        theta_E in the convention of `lensjax.sie`; positions in arcsec from the middle
        of the image along its pixel axes.  NaN where no start led anywhere.
    """
    pixels = pixels_of(observation, settings)
    image, variance, psf = (jnp.asarray(a, jnp.float32) for a in observation[:3])
    planes = Observation(image, variance, psf, jnp.asarray(observation.mask), None)
    return _fit(planes, pixels, settings, priors, jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _fit(planes, pixels, settings, priors, key) -> Fit:
    observation = planes._replace(pixel_scale=pixels.scale)
    psf = observation.psf
    light, basis = prepared(observation, settings)
    # templates need not be exact: fewer rays
    coarse = pixels._replace(supersampling=min(2, pixels.supersampling))
    u = search.starts(settings.starts, basis, light.ellipse, psf, coarse, priors,
                      settings.temperature)  # fmt: skip

    def problem_of(light, basis):
        return Problem(basis, light, psf, pixels, settings, priors)

    def lowered(u, problem):
        return jax.lax.map(
            lambda one: descent.descend(one, problem.expand, settings.steps), u
        )

    def again(carry, left):
        light, basis, u, kept = carry
        problem = problem_of(light, basis)
        modes = lowered(u, problem)
        cost = jnp.where(jnp.isfinite(modes.at.cost), modes.at.cost, jnp.inf)
        best = jnp.argmin(cost)
        rest = chi2_without_arcs(observation, basis) / settings.temperature
        new = _Round(light, basis, modes, cost[best] + rest / 2)
        better = new.total < kept.total
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, kept)

        def without_arcs():
            arcs = problem.arcs(modes.u[best]) * modes.at.flux[best][None, None]
            arcs = jnp.where(jnp.isfinite(arcs), arcs, 0)
            return prepared(observation, settings, arcs)

        light, basis = jax.lax.cond(left > 0, without_arcs, lambda: (light, basis))
        return (light, basis, modes.u, kept), None

    shapes = jax.eval_shape(lambda u: lowered(u, problem_of(light, basis)), u)
    empty = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), shapes)
    none = _Round(light, basis, empty, jnp.asarray(jnp.inf, u.dtype))
    left = jnp.arange(settings.rounds)[::-1]
    (*_, kept), _ = jax.lax.scan(again, (light, basis, u, none), left)
    light, basis, modes, _ = kept
    problem = problem_of(light, basis)
    ellipse = light.ellipse

    def drawn(arguments):
        return posterior.of_mode(*arguments, problem.cost, settings.draws)

    keys = jax.random.split(key, settings.starts)
    draws = jax.lax.map(drawn, (keys, modes))
    evidence = draws.log_evidence
    order = jnp.argsort(jnp.where(jnp.isfinite(evidence), -evidence, jnp.inf))
    modes, draws = jax.tree.map(lambda a: a[order], (modes, draws))
    good = posterior.distinct(modes) & jnp.isfinite(draws.log_evidence)
    probability = jax.nn.softmax(jnp.where(good, draws.log_evidence, -jnp.inf))
    weight = jnp.exp(draws.log_weight) * probability[:, None]
    weight = jnp.where(probability[:, None] > 0, weight, 0).ravel()
    physical = scene.physical(draws.u, ellipse).reshape(-1, u.shape[-1])
    low, middle, high = posterior.quantiles(physical, weight, (0.16, 0.5, 0.84))
    about = physical - (weight @ physical)[None]
    rest = chi2_without_arcs(observation, basis) - modes.at.gain
    return Fit(
        median=middle,
        p16=low,
        p84=high,
        covariance=jnp.einsum("s,si,sj->ij", weight, about, about),
        modes=scene.physical(modes.u, ellipse),
        probability=probability,
        gain=modes.at.gain,
        flux=modes.at.flux,
        chi2=rest / (basis.root > 0).sum(dtype=rest.dtype),
        effective=1 / (weight**2).sum(),
        draws=physical,
        weight=weight,
        light=light,
    )


class _Round(NamedTuple):
    """What a round of light and arcs came to."""

    light: LensLight
    basis: Basis
    modes: descent.State
    total: Array  # cost of the best mode, the lens light's included


class Problem(NamedTuple):
    """A posterior of unconstrained numbers u (13,), the light being eliminated."""

    basis: Basis
    light: LensLight
    psf: Array
    pixels: Pixels
    settings: Settings
    priors: Priors

    def arcs(self, u: Array) -> Array:
        """Image (n, n, band) of the lensed source of unit fluxes."""
        return scene.arcs(u, self.light.ellipse, self.psf, self.pixels)

    def residuals(self, u: Array) -> Array:
        """Departures from the priors in their widths."""
        return scene.prior_residuals(u, self.light.ellipse, self.priors)

    def expand(self, u: Array) -> descent.Quadratic:
        """The cost about u, and its derivatives."""
        return descent.quadratic(
            u, self.basis, self.arcs, self.residuals, self.settings.temperature
        )

    def cost(self, u: Array) -> Array:
        """Minus the log of the posterior, up to a constant."""
        gain = descent.gain_of(self.arcs(u), self.basis)
        return (-gain / self.settings.temperature + (self.residuals(u) ** 2).sum()) / 2


def prepared(
    observation: Observation, settings: Settings, arcs: Array | float = 0.0
) -> tuple[LensLight, Basis]:
    """Fit the lens galaxy's light, and make ready what is eliminated.

    arcs: (n, n, band) [counts] that are known, and taken off where the light is fitted.
    """
    n, scale = observation.image.shape[0], observation.pixel_scale
    place = (jnp.arange(n, dtype=observation.image.dtype) - (n - 1) / 2) * scale
    far = jnp.hypot(place[None], place[:, None]) > settings.radius
    observation = observation._replace(mask=observation.mask | far[..., None])
    alone = observation._replace(image=observation.image - arcs)
    light = lens_light.fit(alone, lens_light.start_of(alone))
    return light, _basis.of(observation, light, settings.mode)


def chi2_without_arcs(observation: Observation, basis: Basis) -> Array:
    """chi2 of the best lens light alone, with what its priors add."""
    data = _basis.flat(observation.image) * basis.root
    return (data * basis.rest).sum()
