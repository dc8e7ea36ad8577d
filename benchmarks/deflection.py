"""Deflection by SIEs: one lens at a million points, and 256 lenses on a pixel grid.

    python -m benchmarks.deflection [--quick] [--out FILE.json]

Beside the codes stands a bare copy of the same bytes: two float32 arrays read, two
written, as fast as the memory allows.
"""

import numpy as np

from benchmarks import command, textbook
from benchmarks.record import require, row
from benchmarks.turns import Contender, Missing, in_turns

SOFT = 0.3  # arcsec: nearer to the centre lensjax's core shows, and is meant to
LARGEST_ERROR = 5e-6  # arcsec, for theta_E of 1.2 to 2 in float32


def inputs(lenses: int, points: int):
    """Lens parameters (lenses, 1), and positions (1, points), float64."""
    rng = np.random.default_rng(1)
    column = {
        "theta_E": rng.uniform(1.2, 2, (lenses, 1)),
        "q": rng.uniform(0.4, 0.95, (lenses, 1)),
        "phi": rng.uniform(0, np.pi, (lenses, 1)),
    }
    x, y = rng.uniform(-5, 5, (2, 1, points))
    return column, x.astype(np.float32), y.astype(np.float32)


def on_device(lenses, points):
    """The same for lensjax: a SIE of arrays (lenses,), and positions (points,)."""
    import jax.numpy as jnp

    from lensjax import sie

    column, x, y = inputs(lenses, points)
    given = {k: jnp.asarray(v[:, 0], jnp.float32) for k, v in column.items()}
    return sie.from_axis_ratio(**given), jnp.asarray(x[0]), jnp.asarray(y[0])


def ours(lenses, points):
    """By lensjax: jit, and vmap where there are several."""
    import jax

    from lensjax import sie

    lens, x, y = on_device(lenses, points)
    deflect = jax.jit(jax.vmap(sie.deflect, (0, None, None)))
    if lenses == 1:
        deflect, lens = jax.jit(sie.deflect), jax.tree.map(lambda a: a[0], lens)
    return lambda: jax.block_until_ready(deflect(lens, x, y)), 1


def copied(lenses, points):
    """A bare copy by XLA: as much read and written as the deflection needs."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.ones((2, points), jnp.float32)
    each = jnp.ones((lenses, 1), jnp.float32)
    copy = jax.jit(lambda each, x, y: (x[None] + each, y[None] + each))
    return lambda: jax.block_until_ready(copy(each, x, y)), 1


def component(lenses, points):
    """One component of lensjax's deflection, for which XLA makes one loop."""
    import jax

    from lensjax import sie

    lens, x, y = on_device(lenses, points)
    deflect = jax.jit(jax.vmap(lambda lens: sie.deflect(lens, x, y)[0]))
    return lambda: jax.block_until_ready(deflect(lens)), 1


def caustics(lenses, points, compiled):
    """Caustics' functional deflection in PyTorch."""
    import torch
    from caustics.lenses.func import reduced_deflection_angle_sie as deflect

    device = command.torch_device()
    column, x, y = inputs(lenses, points)
    column["theta_E"] = textbook.geometric_radius(column["theta_E"], column["q"])
    zero = np.zeros_like(column["q"])
    of = (zero, zero, column["q"], column["phi"], column["theta_E"])
    given = [torch.tensor(a, dtype=torch.float32, device=device) for a in (*of, x, y)]
    if compiled:
        deflect = torch.compile(deflect)

    @torch.inference_mode()
    def run():
        found = deflect(*given, 0.0)
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run, 1


def jaxtronomy(lenses, points):
    """JAXtronomy, compiled; importing it switches to float64, inputs are float32."""
    import jax
    import jax.numpy as jnp
    from jaxtronomy.LensModel.lens_model import LensModel

    model = LensModel(["SIE"])
    column, x, y = inputs(lenses, points)
    radius = textbook.geometric_radius(column["theta_E"], column["q"])
    e = (1 - column["q"]) / (1 + column["q"])
    e1, e2 = e * np.cos(2 * column["phi"]), e * np.sin(2 * column["phi"])
    given = [jnp.asarray(a[:, 0], jnp.float32) for a in (radius, e1, e2)]
    x, y = jnp.asarray(x[0]), jnp.asarray(y[0])

    def one(theta_E, e1, e2):
        lens = {"theta_E": theta_E, "e1": e1, "e2": e2}
        return model.alpha(x, y, [lens | {"center_x": 0.0, "center_y": 0.0}])

    deflect = jax.jit(jax.vmap(one))
    if lenses == 1:
        deflect, given = jax.jit(one), [a[0] for a in given]
    return lambda: jax.block_until_ready(deflect(*given)), 1


def lenstronomy(lenses, points):
    """Lenstronomy, in float64 as always; one lens after the other."""
    from lenstronomy.LensModel.lens_model import LensModel

    model = LensModel(["SIE"])
    column, x, y = inputs(lenses, points)
    x, y = np.float64(x[0]), np.float64(y[0])
    radius = textbook.geometric_radius(column["theta_E"], column["q"])
    e = (1 - column["q"]) / (1 + column["q"])
    e1, e2 = e * np.cos(2 * column["phi"]), e * np.sin(2 * column["phi"])
    at = {"center_x": 0.0, "center_y": 0.0}
    given = [
        {"theta_E": t, "e1": a, "e2": b} | at
        for t, a, b in zip(radius[:, 0], e1[:, 0], e2[:, 0], strict=True)
    ]

    def run():
        found = [model.alpha(x, y, [lens]) for lens in given]
        return tuple(np.stack(a) for a in zip(*found, strict=True))

    return run, 1


def measure(quick: bool) -> dict:
    """Rows of both kinds of work, each with its largest error."""
    rows = []
    for lenses, points in ((1, 10**6), (256, 64 * 64)):
        if quick and lenses == 1:
            continue
        if quick:
            lenses, points = 4, points // 100
        column, x, y = inputs(lenses, points)
        truth = textbook.deflection(**column, x=np.float64(x), y=np.float64(y))
        far = np.hypot(x, y)[0] > SOFT
        work = (lenses, points)
        name = f"{lenses:,} lens{'es' * (lenses > 1)} x {points:,} points"
        for found in in_turns(
            [
                Contender("lensjax", ours, work),
                Contender("copy", copied, work),
                Contender("lensjax, one component", component, work),
                Contender("caustics, compiled", caustics, (*work, True), rival=True),
                Contender("caustics", caustics, (*work, False), rival=True),
                Contender("JAXtronomy", jaxtronomy, work, rival=True),
                Contender("lenstronomy", lenstronomy, work, rival=True),
            ],
            turns=2 if quick else 15,
        ):
            if found.name == "copy" or isinstance(found, Missing):
                rows.append(row(name, found))
                continue
            one = found.name == "lensjax, one component"
            answer = (found.answer,) if one else found.answer
            # of numpy: nan is the largest
            wrong = np.max(
                [
                    np.abs(np.float64(a).reshape(b.shape) - b)[:, far].max()
                    for a, b in zip(answer, truth[: len(answer)], strict=True)
                ]
            )
            require(wrong < LARGEST_ERROR, f"{found.name} is off by {wrong} arcsec")
            rows.append(row(name, found, error=float(f"{wrong:.1e}")))
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
