"""Networks trained an hour: many members in one program against one at a time.

    python -m benchmarks.grid [--members 20] [--systems 2000] [--out FILE.json]

The same steps of the paper's network on the same images in memory, in alternation.
`one at a time` is one compiled program called for one member after the other; a process
for each would spend its own start and compilation besides, which is given apart.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.provenance import commit
from lensjax import batches, catalogue, train
from lensjax.batches import Data
from lensjax.network import Architecture
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import HSC
from lensjax.system import Rendering, System
from lensjax.train import Hyperparameters


def made_up(n: int, lenses: int) -> Data:
    """Images of noise: what is in them costs nothing."""
    rng = np.random.default_rng(0)
    zero = jnp.zeros(n)
    names = {name: zero for name in System._fields}
    names |= {
        "lens_index": jnp.asarray(rng.integers(0, lenses, n), jnp.int32),
        "sie": SIE(zero + 1, zero, zero, zero, zero),
        "shear": Shear(zero, zero),
    }
    images = jnp.asarray(rng.normal(size=(n, 64, 64, 4)), jnp.float32)
    return Data(System(**names), None, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=20, help="a multiple of 5")
    parser.add_argument("--systems", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out")
    options = parser.parse_args()
    data, lenses = made_up(options.systems, 200), 200
    part = catalogue.split([str(k) for k in range(lenses)])
    index = data.systems.lens_index
    steps = batches.steps_per_epoch(part, index, options.batch_size)
    tiles = "tiles" if jax.default_backend() == "cpu" else "lax"
    setup = train.Settings(
        options.batch_size,
        scaling="asinh",
        architecture=Architecture(convolution=tiles),
    )
    choices = [Hyperparameters(0.001, k) for k in range(options.members // 5)]
    many = train.members(batches.split_rows(part, index, list(range(5))), choices)
    single = jax.tree.map(lambda a: a[:1], many)

    def ready(members):
        began = time.perf_counter()
        program = train.compile(setup, steps, members, Rendering(HSC, 0.03))
        start = train.start(setup, members, keep_best=False)
        state, placed = program.place((start, members))
        state = program.run(state, placed, data, 0, 0, 0)
        jax.block_until_ready(state.loss_sum)
        return program, state, placed, time.perf_counter() - began

    def epoch(made):
        program, state, placed, _ = made
        began = time.perf_counter()
        state = program.run(state, placed, data, 0, 0, steps)
        jax.block_until_ready(state.loss_sum)
        return time.perf_counter() - began, (program, state, placed, 0)

    together, alone = ready(many), ready(single)
    compiled = together[3], alone[3]
    took: dict[str, list[float]] = {"together": [], "one at a time": []}
    for _ in range(options.repeats):
        seconds, together = epoch(together)
        took["together"].append(seconds / options.members)
        seconds = 0.0
        for _ in range(options.members):
            one, alone = epoch(alone)
            seconds += one
        took["one at a time"].append(seconds / options.members)
    device = jax.devices()[0]
    per_epoch = steps * options.batch_size
    medians = {name: float(np.median(t)) for name, t in took.items()}
    result = {
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "jax": jax.__version__,
        "commit": commit(),
        "members": options.members,
        "images an epoch and member": per_epoch,
        "images per second": {k: round(per_epoch / t) for k, t in medians.items()},
        "networks of 300 epochs per day": {
            k: round(86_400 / (300 * t), 1) for k, t in medians.items()
        },
        "ratio": round(medians["one at a time"] / medians["together"], 2),
        "compilation [s]": dict(
            zip(took, (round(t, 1) for t in compiled), strict=True)
        ),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        with open(options.out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
