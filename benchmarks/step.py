"""A training step of the paper's network: alone, with mocks made in it, and in company.

    python -m benchmarks.step [--quick] [--out FILE.json]

Seconds are for one step of one network.  `network alone` trains on images in memory,
`made in the step` renders mocks there from stamps of the embedded population.  PyTorch
trains the same network by the same rule from the same first values on the same batches;
the mean loss of the first epoch must agree, and so must that of networks side by side
with that of one, and that of mocks made in the step with that of kept ones.
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
    """Settings of the paper's optimiser."""
    from lensjax.learning.step import Settings

    return Settings(batch_size, "sgd", MOMENTUM, DECAY)


def paper(convolution: str | None = None):
    """The paper's network, images as they are."""
    from lensjax.learning import network, paper_cnn

    convolution = convolution or network.convolution_here()
    return paper_cnn.estimator(
        paper_cnn.Settings(network.Architecture(convolution=convolution))
    )


def kept(n: int):
    """Systems with images in memory, and the lens of each."""
    import jax.numpy as jnp

    from lensjax.learning.dataset import Data
    from lensjax.learning.estimator import Scene
    from lensjax.mocks.system import Rendering, System
    from lensjax.shear import Shear
    from lensjax.sie import SIE
    from lensjax.survey import HSC

    images, targets = images_and_targets(n)
    zero = jnp.zeros(n)
    x, y, ex, ey, theta_E = jnp.asarray(targets).T
    names = dict.fromkeys(System._fields, zero) | {
        "lens_index": jnp.asarray(np.arange(n) % LENSES, jnp.int32),
        "sie": SIE(theta_E, ex, ey, x, y),
        "shear": Shear(zero, zero),
    }
    return (
        Data(System(**names), None, Scene(jnp.asarray(images))),
        LENSES,
        Rendering(HSC, 0.03),
    )


def rendered(n: int):
    """Systems of the embedded population, to be rendered when they are due."""
    from lensjax.commands import config
    from lensjax.commands.resolve import catalogue_of, rendering_of, sample_of
    from lensjax.learning.dataset import Data

    lenses, sources = min(LENSES, n), min(100, n // 2)
    drawn = [f"size={n}", f"n_lenses={lenses}", f"n_sources={sources}", "once=false"]
    composed = config.compose("sample", [*drawn, "out=nowhere"])
    chosen = config.typed(composed, config.DrawConfig)
    catalogue, listing = catalogue_of(chosen)
    systems = sample_of(chosen, catalogue, listing).systems
    return Data(systems, catalogue), lenses, rendering_of(chosen, listing)


def rendered_once(n: int):
    """The same systems, their images kept in memory."""
    from lensjax.learning import dataset
    from lensjax.learning.estimator import Scene

    data, lenses, rendering = rendered(n)
    images = dataset.render_all(data.systems, data.catalogue, rendering)
    return data._replace(catalogue=None, kept=Scene(images)), lenses, rendering


def ours(make, n, batch_size, members, together):
    """By lensjax: an epoch's steps in one compiled program.

    Returns the first epoch's mean loss.
    """
    import jax

    from lensjax.learning import train

    data, lenses, rendering = make(n)
    members_of, steps = folds_of(data.systems.lens_index, lenses, batch_size, members)
    taken = members_of if together else jax.tree.map(lambda a: a[:1], members_of)
    setup = settings(batch_size)
    program = train.compile(paper(), setup, steps, taken, rendering)
    first = train.start(paper(), setup, taken, keep_best=False)
    state, taken = program.place((first, taken))
    runs, losses = 1 if together else members, []

    def run():
        nonlocal state
        for _ in range(runs):
            state = program.run(state, taken, data, 0, 0, steps)

            if not losses:
                losses.append(float(state.loss_sum[0]))
        jax.block_until_ready(state.loss_sum)
        return losses[0]

    return run, steps * members


def folds_of(lens_index, lenses, batch_size, members):
    """Members of the folds of a sample, five of each choice, and an epoch's steps."""
    from lensjax import catalogue
    from lensjax.learning import folds, train
    from lensjax.learning.train import Hyperparameters

    part = catalogue.split([str(k) for k in range(lenses)])
    steps = folds.steps_per_epoch(part, lens_index, batch_size)
    rows = folds.split_rows(part, lens_index, list(range(min(members, 5))))
    choices = [Hyperparameters(RATE, k) for k in range(-(-members // 5))]
    return train.members(rows, choices), steps


def pytorch(n, batch_size, compiled):
    """By PyTorch: the same batches, taken from images in memory.

    Returns the first epoch's mean loss.
    """
    import jax
    import torch

    from lensjax.learning import train

    device = command.torch_device()
    members, steps = folds_of(np.arange(n) % LENSES, LENSES, batch_size, 1)
    one = jax.tree.map(lambda a: a[0], members)
    order = np.asarray(train.order(one, 0))[: steps * batch_size]
    order = torch.tensor(order.reshape(steps, batch_size), device=device)
    start = train.start(paper(), settings(batch_size), members, keep_best=False).params
    net = torch_network(jax.tree.map(lambda a: a[0], start)).to(device)
    images, targets = images_and_targets(n)
    images = torch.tensor(images, device=device).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor(targets, device=device)
    rule = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)

    def batch_loss(images, targets):
        return ((net(images) - targets) ** 2).mean()

    of = torch.compile(batch_loss) if compiled else batch_loss
    losses = []

    def run():
        total = torch.zeros((), device=device)
        for rows in order:
            rule.zero_grad()
            loss = of(images[rows], targets[rows])
            loss.backward()
            rule.step()
            total += loss.detach() / steps
        if device == "cuda":
            torch.cuda.synchronize()
        if not losses:
            losses.append(total.item())
        return losses[0]

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
    many, few = 20, n // 4
    alone, five = f"network alone, batch {size}", "five folds"
    grid = f"{many} members of a grid, batch 32"
    inside = f"mocks, batch {size}"
    one = [
        Contender("lensjax", ours, (kept, n, size, 1, True)),
        Contender("PyTorch", pytorch, (n, size, False), rival=True),
    ]
    if not quick:
        of = (n, size, True)
        one.append(Contender("PyTorch, compiled", pytorch, of, rival=True))
    works = {
        alone: one,
        inside: [
            Contender("made in the step", ours, (rendered, few, size, 1, True)),
            Contender("kept in memory", ours, (rendered_once, few, size, 1, True)),
        ],
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
        works = {alone: one, inside: works[inside][:1]}
    rows, first = [], {}
    for work, contenders in works.items():
        for found in in_turns(contenders, turns):
            rows.append(row(work, found))
            if not isinstance(found, Missing):
                first.setdefault(work, {})[found.name] = float(found.answer)
    for work, losses in first.items():
        spread = np.ptp(list(losses.values())) / np.mean(list(losses.values()))
        require(spread < 1e-3, f"{work}: first epochs' losses differ, {losses}")
    if not quick:
        # the first of the folds is the network alone
        same = first[alone]["lensjax"], first[five]["side by side"]
        require(abs(same[0] / same[1] - 1) < 1e-4, f"a fold is not the network: {same}")
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
