"""A posterior of your own by blackjax: NUTS with a window adaptation.

    python docs/examples/blackjax_fit.py CUTOUT.fits [DRAWS]

In unconstrained numbers, with the priors of the fit: what is sampled is
`inference.log_posterior`, which any sampler takes.  `inference.sample` does the like
for every mode of a fit, with fixed trajectories that many lenses share.
"""

import sys

import blackjax
import jax
import numpy as np

from lensjax import inference
from lensjax.inference import candidate, scene


def run(observation, settings=inference.Settings(), draws=500, warmup=300):  # noqa: B008
    """Draws (draw, 13) as `inference.NAMES`, and the fit that the chain starts from."""
    fit = inference.fit(observation, settings)
    ready = inference.prepare(observation, settings, fit.light)
    light = ready.light.ellipse

    def log_density(u):
        return inference.log_posterior(u, ready, temperature=fit.temperature)

    start = scene.unconstrained(fit.modes[0], light)
    adaptation = blackjax.window_adaptation(
        blackjax.nuts, log_density, max_num_doublings=6
    )
    (state, tuned), _ = adaptation.run(jax.random.key(0), start, num_steps=warmup)
    step = jax.jit(blackjax.nuts(log_density, **tuned).step)
    kept = []
    for key in jax.random.split(jax.random.key(1), draws):
        state, _ = step(key, state)
        kept.append(scene.physical(state.position, light))
    return np.stack(kept), fit


if __name__ == "__main__":
    path, *number = sys.argv[1:]
    samples, fit = run(
        candidate.read(path).observation, draws=int((number or [500])[0])
    )
    for k, name in enumerate(inference.NAMES):
        mean, sigma = samples[:, k].mean(), samples[:, k].std()
        print(f"{name:10s} {mean:8.4f} +- {sigma:.4f}   fit {fit.median[k]:8.4f}")
