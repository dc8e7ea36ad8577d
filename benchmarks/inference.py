"""Lenses modelled a second: the network, the next images, and both.

    python -m benchmarks.inference [--systems 4096] [--out FILE.json]

Takes ready images in memory.  Times are medians of several runs, compiled before.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.provenance import commit
from lensjax import cosmology, followup, images, lens, network, sie, train
from lensjax.network import Architecture


def median_seconds(function, *arguments, repeats: int) -> float:
    jax.block_until_ready(function(*arguments))
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out")
    options = parser.parse_args()
    n, rng = options.systems, np.random.default_rng(0)
    tiles = "tiles" if jax.default_backend() == "cpu" else "lax"
    setup = train.Settings(
        scaling="asinh", architecture=Architecture(convolution=tiles)
    )
    params = network.init(jax.random.key(0), setup.architecture)
    stamps = jnp.asarray(rng.normal(0, 1, (n, 64, 64, 4)), jnp.float32)

    def real(low, high):
        return jnp.asarray(rng.uniform(low, high, n), jnp.float32)

    mass = jax.vmap(sie.from_axis_ratio)(
        real(0.5, 2), real(0.4, 1), real(0, np.pi), real(-0.1, 0.1), real(-0.1, 0.1)
    )
    model = lens.without_shear(mass)
    beta = real(-0.2, 0.2), real(-0.2, 0.2)
    z_lens, z_source = real(0.2, 0.8), real(1, 3)
    distance = cosmology.time_delay_distance(cosmology.PAPER, z_lens, z_source)
    first = jax.jit(jax.vmap(images.solve))(model, *beta)
    known = first.x[:, 0], first.y[:, 0]

    @jax.jit
    def modelled(params, stamps):
        blocks = stamps.reshape(-1, 256, *stamps.shape[1:])
        answers = jax.lax.map(lambda s: train.answer(params, s, setup), blocks)
        return answers.reshape(-1, answers.shape[-1])

    @jax.jit
    def next_images(model, known, distance):
        return jax.vmap(followup.predict)(model, *known, distance)

    repeats = options.repeats
    alone = median_seconds(modelled, params, stamps, repeats=repeats)
    solved = median_seconds(next_images, model, known, distance, repeats=repeats)
    device = jax.devices()[0]
    result = {
        "device": f"{device.device_kind} ({device.platform})",
        "jax": jax.__version__,
        "commit": commit(),
        "systems": n,
        "network, lenses per second": round(n / alone),
        "next images and delays, lenses per second": round(n / solved),
        "both, lenses per second": round(n / (alone + solved)),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        with open(options.out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
