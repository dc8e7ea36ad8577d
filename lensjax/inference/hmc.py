"""Draws by Hamiltonian Monte Carlo, for posteriors that a normal does not describe.

In the neighbourhood of each mode numbers are measured along the axes of Laplace's
approximation, in its widths, so that one step size serves all; blackjax moves the
chains, several a mode.  Modes keep the weights that their evidence gave them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.inference import basis as bases
from lensjax.inference import lens_model, posterior, scene
from lensjax.inference.lens_model import Fit
from lensjax.inference.problem import (
    DEFAULT,
    USUAL,
    Problem,
    Settings,
    arrays_of,
)
from lensjax.inference.scene import Priors
from lensjax.mocks import batching
from lensjax.observation import Observation

STEPS = 3, 8  # fewest, and one more than most, of a trajectory
FIRST, ACCEPTED = 0.5, 0.8  # step in Laplace's widths to begin with; aim
WORTH = 0.01  # probability of a mode, above which it is sampled


class Chains(NamedTuple):
    """Chains of one mode, and how well they agree."""

    u: Array  # (chain, draw, k) unconstrained
    r_hat: Array  # () the largest of all numbers (Gelman & Rubin)
    effective: Array  # () equal, independent draws: the smallest of all numbers
    diverged: Array  # () trajectories that did


def sample(
    fit: Fit,
    observation: Observation,
    settings: Settings = DEFAULT,
    priors: Priors = USUAL,
    seed: int = 0,
) -> Fit:
    """Replace the draws of a fit by chains of Hamiltonian Monte Carlo.

    Parameters
    ----------
    fit : Fit
        Of `lensjax.inference.fit`: modes, their evidence, and the lens's light.
    observation, settings, priors
        Those of the fit; `settings` says how many chains and draws.
    seed : int
        Of the chains.

    Returns
    -------
    Fit
        The same modes; median, range, covariance and draws (mode * chain * draw, 13)
        are the chains', `r_hat`, `effective` and `divergences` say how good they are.

    Notes
    -----
    The chains of one mode may find another's place; each mode's weight is that of
    `Fit.probability` all the same.
    """
    planes, pixels, priors = arrays_of(observation, settings, priors)
    fit = jax.tree.map(lambda a: jnp.asarray(a, planes.image.dtype), fit)
    if not np.isfinite(fit.modes[0]).all():
        return fit
    return _compiled()(planes, fit, pixels, settings, priors, jax.random.key(seed))


@functools.cache
def _compiled() -> Callable[..., Fit]:
    options = batching.one_thread()
    return jax.jit(_sample, static_argnums=(2, 3), compiler_options=options)


def _sample(planes, fit, pixels, settings, priors, key) -> Fit:
    observation = planes._replace(pixel_scale=pixels.scale)
    basis = bases.of(observation, fit.light, settings.mode)
    problem = Problem(basis, fit.light, planes.psf, pixels, fit.temperature, priors)
    ellipse = fit.light.ellipse
    good = jnp.isfinite(fit.modes).all(-1) & (fit.probability > WORTH)
    modes = jnp.where(good[:, None], fit.modes, fit.modes[:1])
    u = scene.unconstrained(modes, ellipse)

    def of_mode(key, u):
        hessian = problem.expand(u).hessian
        return chains_of(key, u, hessian, problem.cost, settings)

    keys = jax.random.split(key, len(u))
    chains = posterior.only(good, of_mode, keys, u)
    places = jnp.where(jnp.isfinite(chains.u), chains.u, u[:, None, None])
    physical = scene.physical(places, ellipse).reshape(-1, u.shape[-1])
    each = physical.shape[0] // len(u)
    share = jnp.where(good, fit.probability, 0)
    weight = jnp.repeat(share / share.sum() / each, each)
    return fit._replace(
        **lens_model.described(physical, weight),
        effective=jnp.nansum(chains.effective),
        r_hat=jnp.nanmax(chains.r_hat),
        divergences=jnp.nansum(chains.diverged),
    )


def chains_of(
    key: Array,
    u: Array,
    hessian: Array,
    cost: Callable[[Array], Array],
    settings: Settings,
) -> Chains:
    """Run chains about a mode u (k,) of a cost, minus the log of a density."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    root = posterior.root_of(hessian)  # (k, k): widths along the axes
    kernel = blackjax.dynamic_hmc.build_kernel(
        integration_steps_fn=lambda key: jax.random.randint(key, (), *STEPS)
    )
    unit = jnp.ones_like(u)
    number = settings.chains

    def log_density(z):
        value = -cost(u + root @ z)
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    def moved(key, states, step):
        keys = jax.random.split(key, number)
        states, info = jax.vmap(lambda k, s: kernel(k, s, log_density, step, unit))(
            keys, states
        )
        return states, info

    start, adapt, run = jax.random.split(key, 3)
    places = jax.random.normal(start, (number, len(u)), u.dtype)
    states = jax.vmap(lambda z, k: blackjax.dynamic_hmc.init(z, log_density, k))(
        places, jax.random.split(start, number)
    )
    begin, update, final = dual_averaging_adaptation(ACCEPTED)

    def warm(carry, key):
        states, tuned = carry
        states, info = moved(key, states, jnp.exp(tuned.log_step_size))
        accepted = jnp.nan_to_num(info.acceptance_rate).mean()
        return (states, update(tuned, accepted)), None

    first = begin(jnp.asarray(FIRST, u.dtype))
    keys = jax.random.split(adapt, settings.warmup)
    (states, tuned), _ = jax.lax.scan(warm, (states, first), keys)
    step = final(tuned)

    def on(states, key):
        states, info = moved(key, states, step)
        return states, (states.position, info.is_divergent)

    _, (z, diverged) = jax.lax.scan(on, states, jax.random.split(run, settings.draws))
    z = jnp.swapaxes(z, 0, 1)
    r_hat = blackjax.diagnostics.potential_scale_reduction(z)
    effective = blackjax.diagnostics.effective_sample_size(z)
    places = u[None, None] + jnp.einsum("ij,csj->csi", root, z)
    return Chains(places, r_hat.max(), effective.min(), diverged.sum(dtype=u.dtype))
