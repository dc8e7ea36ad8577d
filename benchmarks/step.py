"""A training step of the paper's network: alone, with mocks made in it, and in company.

    python -m benchmarks.step [--quick] [--out FILE.json]

Seconds are for one step of one network.  `network alone` trains on images in memory,
`mocks made in the step` renders them there from stamps of the embedded population.
PyTorch trains the same network by the same rule from the same first values on images in
memory; its loss of one batch is held against ours.
"""

import numpy as np

from benchmarks import command
from benchmarks.record import require, row
from benchmarks.turns import Contender, Missing, in_turns

SIDE, BANDS, LENSES = 64, 4, 200
RATE, MOMENTUM, DECAY = 0.001, 0.9, 5e-4


def images_and_targets(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise (n, 64, 64, 4): what is in them costs nothing; fewer are part."""
    one, other = (np.random.default_rng(seed) for seed in (3, 4))
    images = one.normal(size=(n, SIDE, SIDE, BANDS))
    return images.astype(np.float32), other.normal(size=(n, 5)).astype(np.float32)


def settings(batch_size: int):
    """Settings of the paper's network and optimiser, images as they are."""
    import jax

    from lensjax import train
    from lensjax.network import Architecture

    how = "tiles" if jax.default_backend() == "cpu" else "lax"
    return train.Settings(
        batch_size,
        "sgd",
        MOMENTUM,
        DECAY,
        scaling="none",
        architecture=Architecture(convolution=how),
    )


def kept(n: int):
    """Systems with images in memory, and the lens of each."""
    import jax.numpy as jnp

    from lensjax.batches import Data
    from lensjax.shear import Shear
    from lensjax.sie import SIE
    from lensjax.survey import HSC
    from lensjax.system import Rendering, System

    images, targets = images_and_targets(n)
    zero = jnp.zeros(n)
    x, y, ex, ey, theta_E = jnp.asarray(targets).T
    names = dict.fromkeys(System._fields, zero) | {
        "lens_index": jnp.asarray(np.arange(n) % LENSES, jnp.int32),
        "sie": SIE(theta_E, ex, ey, x, y),
        "shear": Shear(zero, zero),
    }
    return (
        Data(System(**names), None, jnp.asarray(images)),
        LENSES,
        Rendering(HSC, 0.03),
    )


def rendered(n: int):
    """Systems of the embedded population, to be rendered when they are due."""
    from experiments import config
    from experiments.sample import catalogue_of, rendering_of, sample_of
    from lensjax.batches import Data

    lenses, sources = min(LENSES, n), 100
    drawn = [f"size={n}", f"n_lenses={lenses}", f"n_sources={sources}", "once=false"]
    composed = config.compose("sample", [*drawn, "out=nowhere"])
    chosen = config.typed(composed, config.DrawConfig)
    catalogue, listing = catalogue_of(chosen)
    systems = sample_of(chosen, catalogue, listing).systems
    return Data(systems, catalogue), lenses, rendering_of(chosen, listing)


def ours(make, n, batch_size, members, together):
    """lensjax: an epoch's steps in one compiled program."""
    import jax

    from lensjax import batches, catalogue, train
    from lensjax.train import Hyperparameters

    data, lenses, rendering = make(n)
    part = catalogue.split([str(k) for k in range(lenses)])
    index = data.systems.lens_index
    steps = batches.steps_per_epoch(part, index, batch_size)
    setup, folds = settings(batch_size), list(range(min(members, 5)))
    choices = [Hyperparameters(RATE, k) for k in range(-(-members // 5))]
    many = train.members(batches.split_rows(part, index, folds), choices)
    taken = many if together else jax.tree.map(lambda a: a[:1], many)
    program = train.compile(setup, steps, taken, rendering)
    first = train.start(setup, taken, keep_best=False)
    params = jax.tree.map(lambda a: a[0], first.params)
    state, taken = program.place((first, taken))
    runs = 1 if together else members
    initial = None
    if data.images is not None:
        images, targets = (a[:64] for a in images_and_targets(n))
        weights = train.target_weights(1.0)
        outputs = train.answer(params, images, setup)
        initial = train.loss(outputs, targets, weights).mean()

    def run():
        nonlocal state
        for _ in range(runs):
            state = program.run(state, taken, data, 0, 0, steps)
        jax.block_until_ready(state.loss_sum)
        return initial

    return run, steps * members


def pytorch(n, batch_size, compiled):
    """PyTorch, images of a shuffled order taken from memory."""
    import jax
    import torch

    from lensjax import network

    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = network.init(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0),
        settings(batch_size).architecture,
    )
    net = torch_network(start).to(device)
    images, targets = images_and_targets(n)
    images = torch.tensor(images, device=device).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor(targets, device=device)
    rule = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    steps = n // batch_size

    def batch_loss(images, targets):
        return ((net(images) - targets) ** 2).mean()

    of = torch.compile(batch_loss) if compiled else batch_loss
    with torch.no_grad():
        initial = batch_loss(images[:64], targets[:64]).item()

    def run():
        order = torch.randperm(n, device=device)
        for k in range(steps):
            rows = order[k * batch_size : (k + 1) * batch_size]
            rule.zero_grad()
            of(images[rows], targets[rows]).backward()
            rule.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return np.float32(initial)

    return run, steps


def torch_network(params):
    """The paper's network in PyTorch, with our first values."""
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(BANDS, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 13 * 13, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 5),
    )
    given = {k: {n: np.array(a) for n, a in v.items()} for k, v in params.items()}
    # PyTorch flattens channels first
    dense = given["dense1"]["kernel"].reshape(13, 13, 16, -1)
    given["dense1"]["kernel"] = dense.transpose(2, 0, 1, 3).reshape(16 * 13 * 13, -1)
    names = ("conv1", "conv2", "dense1", "dense2", "dense3")
    layers = [m for m in net if hasattr(m, "weight")]
    with torch.no_grad():
        for name, layer in zip(names, layers, strict=True):
            kernel = given[name]["kernel"]
            turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            layer.weight.copy_(torch.tensor(turned.copy()))
            layer.bias.copy_(torch.tensor(given[name]["bias"]))
    return net


def measure(quick: bool) -> dict:
    """Rows of steps a second, alone, with mocks and in company."""
    n, size, turns = (320, 32, 1) if quick else (3200, 64, 7)
    many = 20
    alone, five = f"network alone, batch {size}", "five folds"
    grid = f"{many} members of a grid, batch 32"
    inside = f"mocks made in the step, batch {size}"
    one = [
        Contender("lensjax", ours, (kept, n, size, 1, True)),
        Contender("PyTorch", pytorch, (n, size, False)),
    ]
    if not quick:
        one.append(Contender("PyTorch, compiled", pytorch, (n, size, True)))
    works = {
        alone: one,
        inside: [Contender("lensjax", ours, (rendered, n // 4, size, 1, True))],
        five: [
            Contender("side by side", ours, (kept, n, size, 5, True)),
            Contender("one at a time", ours, (kept, n, size, 5, False)),
        ],
        grid: [
            Contender("side by side", ours, (kept, n // 2, 32, many, True)),
            Contender("one at a time", ours, (kept, n // 2, 32, many, False)),
        ],
    }
    if quick:
        works = {alone: one, inside: works[inside]}
    rows, losses = [], {}
    for work, contenders in works.items():
        for found in in_turns(contenders, turns):
            rows.append(row(work, found))
            if not isinstance(found, Missing) and found.answer is not None:
                losses[found.name] = float(found.answer)
    spread = max(losses.values()) / min(losses.values()) - 1
    require(spread < 1e-4, f"first losses differ: {losses}")
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
