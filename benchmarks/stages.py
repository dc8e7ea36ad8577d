"""Where the time of a training step goes: mocks and network, one stage after the other.

    python -m benchmarks.stages [--quick] [--out FILE.json]

Each program does a step of 64 mocks up to a stage, and what it takes longer than the
one before is that stage's time.  Beside it stand two floors: XLA's own count of the
stage's operations over the rate of a large matrix product, and of its bytes, written
and read, over that of a copy; both rates are measured here, by the same device.
"""

import numpy as np

from benchmarks import command, mocks, step
from benchmarks.record import require, rounded, row
from benchmarks.turns import Contender, in_turns

BATCH = 64
STAGES = (
    "stamps gathered and turned",
    "rays traced",
    "light read where they end",
    "PSF, and survey pixels",
    "added to the lens image",
    "network's predictions",
    "their gradient",
    "update of the parameters",
)
LEARNT = STAGES[5:]  # whose programs answer with the loss
MATRIX = 4096  # of the large product
# of the copy; on a CPU it stays in the cache, as mocks do
NUMBERS, IN_CACHE = 2**26, 2**22


def batch(n: int):
    """Systems (n,) and a catalogue of galaxies for them, every one its own."""
    import jax.numpy as jnp

    from lensjax import sie
    from lensjax.catalogue import Catalogue, Lenses, Sources
    from lensjax.mocks.system import System
    from lensjax.shear import Shear

    scenes = [mocks.scene(k % 16) for k in range(n)]

    def column(name):
        return jnp.asarray(np.stack([s[name] for s in scenes]), jnp.float32)

    zero, own = jnp.zeros(n), jnp.arange(n, dtype=jnp.int32)
    mass = sie.from_axis_ratio(column("theta_E"), column("q"), column("phi"))
    systems = System(
        **dict.fromkeys(System._fields, zero)
        | dict.fromkeys(("number", "lens_index", "source_index"), own)
        | dict.fromkeys(("psf_index", "shift_x", "shift_y"), own * 0)
        | {"rotation": own % 4, "sie": mass, "shear": Shear(zero, zero)}
        | {"beta_x": column("beta_x"), "beta_y": column("beta_y")}
    )
    noise = np.random.default_rng(1).normal(size=(n, mocks.SIDE, mocks.SIDE, 4))
    image = jnp.asarray(noise * mocks.SKY, jnp.float32)
    lenses = Lenses(**dict.fromkeys(Lenses._fields, zero) | {"image": image})
    flux, mag = jnp.ones((n, 4)), jnp.zeros((n, 4))
    psfs = jnp.asarray(mocks.kernels()[1][None], jnp.float32)
    return systems, Catalogue(
        lenses, Sources(column("stamp"), flux, zero + 2, mag), psfs
    )


def program(stage: str, at_once: bool):
    """A function (params, momentum, systems, catalogue) that goes as far as a stage.

    at_once: mocks side by side, as on an accelerator, or one after the other.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from lensjax import lens, mock
    from lensjax.learning import train
    from lensjax.learning.estimator import Scene
    from lensjax.mocks import system
    from lensjax.mocks.system import Rendering
    from lensjax.survey import HSC

    upto, rendering = STAGES.index(stage), Rendering(HSC, mocks.STAMP_PIXEL)
    setup, rays = step.settings(BATCH), mock.SUPERSAMPLING
    estimator = step.paper("lax" if at_once else None)

    def one(row, catalogue):
        if upto >= 4:
            return system.render(row, catalogue, rendering)
        image, source, kernel = system.stamps(row, catalogue, rendering)
        scene = system.mass_of(row), row.beta_x, row.beta_y, source
        if upto == 0:
            return image.sum() + kernel.sum() + source.image.sum()
        if upto == 1:
            n = (HSC.image_size + 2 * mock.MARGIN) * rays
            grid = mock.ray_grid(n, HSC.pixel_scale / rays, image.dtype)
            x, y = lens.ray_shoot(scene[0], *grid)
            return image.sum() + kernel.sum() + source.image.sum() + (x + y).sum()
        if upto == 2:
            light = mock.lensed(*scene, HSC, rays)
            return image.sum() + kernel.sum() + light.sum()
        return image.sum() + mock.arcs(*scene, kernel, HSC, rays).sum()

    def made(systems, catalogue):
        if at_once:
            return jax.vmap(one, (0, None))(systems, catalogue)
        return jax.lax.map(lambda row: one(row, catalogue), systems)

    def mean_loss(params, images, systems):
        return estimator.loss(params, Scene(images), systems, jnp.ones(5), None).mean()

    def whole(params, momentum, systems, catalogue):
        images = made(systems, catalogue)
        if stage not in LEARNT:
            return images.sum()
        if stage == LEARNT[0]:
            return mean_loss(params, images, systems)
        loss, gradient = jax.value_and_grad(mean_loss)(params, images, systems)
        if stage == LEARNT[1]:
            return loss, gradient
        rule = train.optimizer(setup, 0.001)
        update, momentum = rule.update(gradient, momentum, params)
        return loss, optax.apply_updates(params, update), momentum

    return jax.jit(whole)


def arguments(n: int):
    """What every program takes."""
    import jax

    from lensjax.learning import train

    setup = step.settings(BATCH)
    params = step.paper().init(jax.random.key(0))
    return params, train.optimizer(setup).init(params), *batch(n)


def ours(stage: str, n: int):
    """A step of n mocks up to a stage; answers with its first result and XLA's count.

    The count, of operations and of bytes, is of the program that has all mocks side by
    side: in a loop XLA counts one turn.
    """
    import jax

    given = arguments(n)
    beside = program(stage, at_once=True).lower(*given).compile()
    of = program(stage, at_once=False) if command.on_cpu() else beside
    count = beside.cost_analysis()
    count = np.array([count["flops"], count["bytes accessed"]])

    def run():
        return jax.tree.leaves(jax.block_until_ready(of(*given)))[0], count

    return run, 1


def product(n: int):
    """A matrix product: what arithmetic alone takes, for one operation."""
    import jax
    import jax.numpy as jnp

    a, times = jnp.ones((n, n)), jax.jit(jnp.matmul)

    def run():
        jax.block_until_ready(times(a, a))

    return run, 2 * n**3


def copy(n: int):
    """An array written over itself: what memory alone takes, for one byte moved."""
    import jax
    import jax.numpy as jnp

    # donated: a fresh array would cost a CPU its pages besides
    a, raised = jnp.zeros(n), jax.jit(lambda a: a + 1, donate_argnums=0)

    def run():
        nonlocal a
        a = jax.block_until_ready(raised(a))

    return run, 8 * n


def measure(quick: bool) -> dict:
    """Rows of stages; seconds are a stage's own, `whole` those up to it."""
    n = 2 if quick else BATCH
    stages = (STAGES[0], STAGES[-2]) if quick else STAGES
    numbers, scale = IN_CACHE if command.on_cpu() else NUMBERS, 8 if quick else 1
    rates = in_turns(
        [
            Contender("product", product, (MATRIX // scale,)),
            Contender("copy", copy, (numbers // scale,)),
        ],
        1 if quick else 7,
    )
    per_operation, per_byte = (r.seconds for r in rates)
    found = in_turns([Contender(s, ours, (s, n)) for s in stages], 1 if quick else 7)
    rows, before, done = [], 0.0, np.zeros(2)
    for one in found:
        operations, bytes_ = one.answer[1] - done
        rows.append(
            row(f"step of {n} mocks", one)
            | {
                "seconds": rounded(one.seconds - before),
                "whole": rounded(one.seconds),
                "operations": rounded(operations),
                "bytes": rounded(bytes_),
                "arithmetic": rounded(operations * per_operation),
                "memory": rounded(bytes_ * per_byte),
            }
        )
        before, done = one.seconds, one.answer[1]
    losses = [float(f.answer[0]) for f in found if f.name in LEARNT]
    require(np.isfinite(losses).all(), f"a loss is not finite: {losses}")
    require(np.ptp(losses) < 1e-4 * losses[0], f"losses of one step differ: {losses}")
    return {
        "rows": rows,
        "rates": {
            "operations a second": rounded(1 / per_operation),
            "bytes a second": rounded(1 / per_byte),
        },
    }


if __name__ == "__main__":
    command.main(__doc__, measure)
