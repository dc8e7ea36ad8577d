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
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference import posterior, scene, search
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import LensLight
from lensjax.inference.problem import (
    DEFAULT,
    USUAL,
    Problem,
    Settings,
    arrays_of,
    chi2_without_arcs,
    prepared,
)
from lensjax.inference.scene import Priors
from lensjax.mocks import batching
from lensjax.observation import Observation

AFTER = 3  # steps, most, from where a descent ended to the wider posterior's lowest
UNLIKELY = 20.0  # a mode whose log probability is so much below the best's


class Fit(NamedTuple):
    """What a fit found; numbers are those of `scene.SPACE`."""

    median: Array  # (13,) posterior of all modes together
    p16: Array
    p84: Array
    covariance: Array  # (13, 13)
    modes: Array  # (mode, 13) the lowest place of each, the most likely first
    probability: Array  # (mode,) of each, 0 for a mode found again
    gain: Array  # (mode,) what the arcs take off chi2
    pull: Array  # (mode,) of the priors: sum of squares of departures in their widths
    lone: Array  # (mode,) largest share of the gain within a sixth of the circle
    flux: Array  # (mode, band) of the source [counts]
    chi2: Array  # (mode,) reduced, over all pixels that count
    effective: Array  # () equal draws that those are worth
    draws: Array  # (draws of all modes, 13)
    weight: Array  # (draws of all modes,) of each, sum 1
    light: LensLight
    temperature: Array  # () chi2 was divided by it
    r_hat: Array  # () of chains, nan where there are none; as below in `hmc`
    divergences: Array  # () likewise


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

    Notes
    -----
    In the precision of JAX's default: single, or double with `jax_enable_x64`.
    """
    planes, pixels, priors = arrays_of(observation, settings, priors)
    return _compiled()(planes, pixels, settings, priors, jax.random.key(seed))


@functools.cache
def _compiled() -> Callable[..., Fit]:
    """`_fit`, by one thread of XLA's own.

    Not to be called by several threads of Python: two executions at once wait for each
    other for ever on two cores (jaxlib 0.10.2, with asynchronous dispatch and without).
    """
    options = batching.one_thread()
    return jax.jit(_fit, static_argnums=(1, 2), compiler_options=options)


def _fit(planes, pixels, settings, priors, key) -> Fit:
    observation = planes._replace(pixel_scale=pixels.scale)
    psf = observation.psf
    light, basis = prepared(observation, settings.mode)
    coarse = pixels._replace(supersampling=1)  # templates need not be exact

    def temperature(gain):
        return settings.temperature * (1 + gain / settings.most_gain)

    u, gain = search.starts(settings.starts, basis, light.ellipse, psf, coarse, priors,
                            temperature)  # fmt: skip

    def problem_of(light, basis):
        return Problem(basis, light, psf, pixels, temperature(gain), priors)

    def lowered(u, alive, problem):
        def descent_of(one):
            return descent.descend(one, problem.expand, settings.steps)

        return posterior.only(alive, descent_of, u)

    def again(carry, left):
        light, basis, u, alive, kept = carry
        problem = problem_of(light, basis)
        modes = _sorted(lowered(u, alive, problem))
        rest = chi2_without_arcs(observation, basis) / problem.temperature
        new = _Round(light, basis, modes, modes.at.cost[0] + rest / 2)
        better = new.total < kept.total  # nan is not
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, kept)

        def without_arcs():
            arcs = problem.arcs(modes.u[0]) * modes.at.flux[0][None, None]
            arcs = jnp.where(jnp.isfinite(arcs), arcs, 0)
            return prepared(observation, settings.mode, arcs, light.ellipse)

        light, basis = jax.lax.cond(left > 0, without_arcs, lambda: (light, basis))
        return (light, basis, modes.u, _alive(modes), kept), None

    every = jnp.ones(len(u), bool)
    shapes = jax.eval_shape(lambda: lowered(u, every, problem_of(light, basis)))
    worst = jnp.asarray(jnp.inf, u.dtype)
    begun = (
        light,
        basis,
        u,
        every,
        _Round(light, basis, posterior.nan_like(shapes), worst),
    )
    left = jnp.arange(settings.rounds)[::-1]
    (*_, kept), _ = jax.lax.scan(again, begun, left)
    light, basis, modes, _ = kept
    problem = problem_of(light, basis).wider(settings.spread)
    ellipse = light.ellipse

    def of_mode(key, mode):
        # the wider likelihood's lowest place is nearer to the priors
        moved = descent.descend(mode.u, problem.expand, AFTER)
        return posterior.of_mode(key, moved, problem.cost, settings.draws)

    keys = jax.random.split(key, settings.starts)
    draws = posterior.only(_alive(modes), of_mode, keys, modes)
    # which mode it is, the likelihood itself says: wider, it would doubt what it knows
    evidence = jax.vmap(posterior.laplace)(modes.at)
    sound = jnp.isfinite(draws.log_evidence) & jnp.isfinite(evidence)
    evidence = jnp.where(sound, evidence, -jnp.inf)
    order = jnp.argsort(-evidence)
    modes, draws, evidence = jax.tree.map(lambda a: a[order], (modes, draws, evidence))
    probability = jax.nn.softmax(evidence)
    weight = jnp.exp(draws.log_weight) * probability[:, None]
    weight = jnp.where(probability[:, None] > 0, weight, 0).ravel()
    parts = search.sectors(ellipse, pixels, u.dtype)

    def lone(u):
        gain = search.shared_gain(problem.arcs(u), basis, parts)
        return (gain + jnp.roll(gain, 1)).max() / gain.sum()

    places = jnp.where(jnp.isfinite(draws.u), draws.u, modes.u[0][None, None])
    physical = scene.physical(places, ellipse).reshape(-1, u.shape[-1])
    rest = chi2_without_arcs(observation, basis) - modes.at.gain
    nan = jnp.full((), jnp.nan, u.dtype)
    return Fit(
        **described(physical, weight),
        modes=scene.physical(modes.u, ellipse),
        probability=probability,
        gain=modes.at.gain,
        pull=jax.vmap(lambda u: (problem.residuals(u) ** 2).sum())(modes.u),
        lone=jax.vmap(lone)(modes.u),
        flux=modes.at.flux,
        chi2=rest / (basis.root > 0).sum(dtype=rest.dtype),
        effective=1 / (weight**2).sum(),
        light=light,
        temperature=problem.temperature,
        r_hat=nan,
        divergences=nan,
    )


def described(draws: Array, weight: Array) -> dict[str, Array]:
    """Fields of a `Fit` that draws (draw, 13) and their weights (draw,) decide."""
    low, middle, high = posterior.quantiles(draws, weight, (0.16, 0.5, 0.84))
    about = draws - (weight @ draws)[None]
    return {
        "median": middle,
        "p16": low,
        "p84": high,
        "covariance": jnp.einsum("s,si,sj->ij", weight, about, about),
        "draws": draws,
        "weight": weight,
    }


def _sorted(modes: descent.State) -> descent.State:
    """Modes, those of the lowest cost first."""
    cost = jnp.where(jnp.isfinite(modes.at.cost), modes.at.cost, jnp.inf)
    return jax.tree.map(lambda a: a[jnp.argsort(cost)], modes)


def _alive(modes: descent.State) -> Array:
    """Which modes, sorted, are likely enough, and not one before found again."""
    cost = modes.at.cost
    return posterior.distinct(modes) & (cost < cost[0] + UNLIKELY)


class _Round(NamedTuple):
    """What a round of light and arcs came to."""

    light: LensLight
    basis: Basis
    modes: descent.State
    total: Array  # cost of the best mode, the lens light's included
