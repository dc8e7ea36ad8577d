"""A lens in a model of your own by numpyro: NUTS on lensjax's likelihood.

    python docs/examples/numpyro_fit.py CUTOUT.fits [DRAWS]

The priors are written out, so that each can be changed; the lens galaxy's light and the
source's fluxes are dealt with inside of the likelihood.
"""

import sys

import jax
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_value

from lensjax import inference
from lensjax.inference import candidate


def model(ready, temperature):
    """Priors of the 13 numbers of `inference.NAMES`, and the likelihood."""
    light = ready.light.ellipse
    normal, sample = dist.Normal, numpyro.sample
    theta_E = sample("theta_E", dist.LogNormal(0.1, 0.5))
    vector = [
        sample("x", normal(light.x, 0.05)),
        sample("y", normal(light.y, 0.05)),
        sample("ex", normal(light.ex, 0.1)),
        sample("ey", normal(light.ey, 0.1)),
        theta_E,
        sample("g1", normal(0, 0.05)),
        sample("g2", normal(0, 0.05)),
        sample("source_x", normal(light.x, 0.4)),
        sample("source_y", normal(light.y, 0.4)),
        sample("radius", dist.LogNormal(-1.6, 0.7)),
        sample("n", dist.Uniform(0.4, 4.4)),
        sample("source_ex", dist.TruncatedNormal(0, 0.3, low=-0.7, high=0.7)),
        sample("source_ey", dist.TruncatedNormal(0, 0.3, low=-0.7, high=0.7)),
    ]
    vector = jax.numpy.stack(vector)
    log_p = inference.log_likelihood(vector, ready, temperature)
    numpyro.factor("image", log_p)


def run(observation, settings=inference.Settings(), draws=500, warmup=300):  # noqa: B008
    """Draws by name, and the fit from whose best mode the chain starts."""
    fit = inference.fit(observation, settings)
    ready = inference.prepare(observation, settings, fit.light)
    start = dict(zip(inference.NAMES, fit.modes[0], strict=True))
    kernel = NUTS(model, init_strategy=init_to_value(values=start), max_tree_depth=6)
    chain = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    chain.run(jax.random.key(0), ready, fit.temperature)
    return chain.get_samples(), fit


if __name__ == "__main__":
    path, *number = sys.argv[1:]
    samples, fit = run(
        candidate.read(path).observation, draws=int((number or [500])[0])
    )
    for k, name in enumerate(inference.NAMES):
        mean, sigma = samples[name].mean(), samples[name].std()
        print(f"{name:10s} {mean:8.4f} +- {sigma:.4f}   fit {fit.median[k]:8.4f}")
