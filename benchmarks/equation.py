"""The lens equation: images of point sources behind an SIE in shear, all of them.

    python -m benchmarks.equation [--quick] [--out FILE.json]

Positions, magnifications and delays of many systems; codes that take one system at a
time do fewer of them.  Images are held against a dense search along the polar angle, in
numpy and with the textbook's deflection, and traced back by it to the source: who loses
some, or has more, is told so; lensjax fails.
"""

import numpy as np

from benchmarks import command, textbook
from benchmarks.accuracy_images import dense_search
from benchmarks.command import on_cpu
from benchmarks.record import require, row
from benchmarks.turns import Contender, Missing, in_turns

SLOTS = 8
MANY = 100_000
H0, OM0, Z_LENS, Z_SOURCE = 72.0, 0.32, 0.5, 2.0
NEAR = (
    2e-3  # arcsec in which an image of the dense search must be met, if not magnified
)
MISS = 1e-3  # arcsec: lensjax's core moves sources by so much for an image at 0.01
FAINTER = 20  # images less magnified than this have a magnification to compare


def systems(n: int) -> dict[str, np.ndarray]:
    """Draw n systems with sources, most of them strongly lensed; fewer are part."""
    u = np.random.default_rng(5).uniform(size=(MANY, 7)).T[:, :n]
    theta_E, g, turn, along = 0.5 + 2.5 * u[0], 0.1 * u[1], *(2 * np.pi * u[2:4])
    beta = 0.6 * theta_E * np.sqrt(u[4])
    return {
        "theta_E": theta_E,
        "q": 0.4 + 0.55 * u[5],
        "phi": np.pi * u[6],
        "x": np.zeros(n),
        "y": np.zeros(n),
        "g1": g * np.cos(turn),
        "g2": g * np.sin(turn),
        "beta_x": beta * np.cos(along),
        "beta_y": beta * np.sin(along),
    }


def ours(n, blocks):
    """By lensjax in float32, all in one compiled call: in blocks, or one vmap."""
    import jax
    import jax.numpy as jnp

    from lensjax import cosmology, images, sie
    from lensjax.lens import Lens
    from lensjax.shear import Shear

    s = {k: jnp.asarray(v, jnp.float32) for k, v in systems(n).items()}
    mass = sie.from_axis_ratio(*(s[k] for k in ("theta_E", "q", "phi", "x", "y")))
    lenses = Lens(mass, Shear(s["g1"], s["g2"]))
    cosmo = cosmology.FlatLambdaCDM(H0, OM0)
    D_dt = cosmology.time_delay_distance(cosmo, Z_LENS, Z_SOURCE)

    def one(lens, beta_x, beta_y):
        found = images.solve(lens, beta_x, beta_y)
        days = images.arrival_times(lens, found, beta_x, beta_y, D_dt)
        return found.x, found.y, found.magnification, days

    def in_blocks(*rows):
        return jax.lax.map(lambda row: one(*row), rows, batch_size=1024)

    all_of = jax.jit(in_blocks if blocks else jax.vmap(one))

    def run():
        return jax.block_until_ready(all_of(lenses, s["beta_x"], s["beta_y"]))

    return run, n


def lenstronomy(n, solver):
    """Lenstronomy, one system after the other."""
    from astropy.cosmology import FlatLambdaCDM
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver

    from lensjax import interop
    from lensjax.lens import Lens
    from lensjax.shear import Shear
    from lensjax.sie import from_axis_ratio

    model = LensModel(
        ["SIE", "SHEAR"],
        z_lens=Z_LENS,
        z_source=Z_SOURCE,
        cosmo=FlatLambdaCDM(H0=H0, Om0=OM0),
    )
    find = LensEquationSolver(model).image_position_from_source
    s = systems(n)
    given = []
    for k in range(n):
        mass = from_axis_ratio(*(s[a][k] for a in ("theta_E", "q", "phi")))
        _, lens = interop.to_lenstronomy(Lens(mass, Shear(s["g1"][k], s["g2"][k])))
        given.append((float(s["beta_x"][k]), float(s["beta_y"][k]), lens))

    def one(beta_x, beta_y, lens):
        x, y = find(beta_x, beta_y, lens, solver=solver)
        days = model.arrival_time(x, y, lens)
        return x, y, model.magnification(x, y, lens), days - min(days, default=0)

    def run():
        return _in_slots([one(*g) for g in given])

    return run, n


def caustics(n):
    """Caustics' triangles, one system after the other, in float64."""
    import torch
    from caustics import SIE, ExternalShear, FlatLambdaCDM, SinglePlane

    from benchmarks.textbook import geometric_radius

    torch.set_default_dtype(torch.float64)
    cosmo = FlatLambdaCDM(name="cosmo", h0=H0 / 100, Om0=OM0)
    parts = [
        SIE(name="sie", cosmology=cosmo, x0=0.0, y0=0.0),
        ExternalShear(name="shear", cosmology=cosmo, x0=0.0, y0=0.0),
    ]
    model = SinglePlane(
        name="lens", cosmology=cosmo, lenses=parts, z_l=Z_LENS, z_s=Z_SOURCE
    )
    s = systems(n)
    radius = geometric_radius(s["theta_E"], s["q"])
    of = np.stack([s["q"], s["phi"], radius, s["g1"], s["g2"]], -1)
    given = torch.tensor(of)
    sources = torch.tensor(np.stack([s["beta_x"], s["beta_y"]], -1))

    def one(params, beta):
        x, y = model.forward_raytrace(*beta, params=params, fov=12.0)
        days = model.time_delay(x, y, params=params)
        return x, y, model.magnification(x, y, params=params), days - days.min()

    def run():
        pairs = zip(given, sources, strict=True)
        found = [one(*p) for p in pairs]
        return _in_slots([[a.detach().numpy() for a in f] for f in found])

    return run, n


def _in_slots(found):
    """Lists of images (four arrays each) as four arrays (n, SLOTS), nan where empty."""
    table = np.full((4, len(found), SLOTS), np.nan)
    for k, one in enumerate(found):
        for a, values in enumerate(one):
            table[a, k, : len(values)] = values[:SLOTS]
    return tuple(table)


def seen(s: dict, k: int, x, y) -> tuple[np.ndarray, np.ndarray]:
    """Source plane position of (x, y) behind system k, by the textbook."""
    ax, ay = textbook.deflection(s["theta_E"][k], s["q"][k], s["phi"][k], x, y)
    g1, g2 = s["g1"][k], s["g2"][k]
    return (1 - g1) * x - g2 * y - ax, (1 + g1) * y - g2 * x - ay


def magnification(s: dict, k: int, x, y, h: float = 1e-5) -> np.ndarray:
    """Signed magnification at (x, y) behind system k, by central differences."""
    (xx, yx), (xy, yy) = (
        [
            (a - b) / (2 * h)
            for a, b in zip(
                seen(s, k, x + dx, y + dy), seen(s, k, x - dx, y - dy), strict=True
            )
        ]
        for dx, dy in ((h, 0), (0, h))
    )
    return 1 / (xx * yy - xy * yx)


def judged(answer, n: int, signed: bool = True) -> dict:
    """How the first n systems' images compare with the dense search.

    lost: images that the answer lacks; more: those that it has besides; miss: the
    farthest that one is traced from its source [arcsec]; magnification: the largest
    relative error of an image magnified less than `FAINTER` times, of its size alone
    where a code has no sign.
    """
    s, counts, misses, errors = systems(n), np.zeros(3, int), [0.0], [0.0]
    x, y, mu, _ = (np.float64(a) for a in answer)
    for k in range(n):
        there = np.stack(dense_search(s, k, 8192))
        ours = np.isfinite(x[k])
        here = np.stack([x[k], y[k]])[:, ours]
        true = magnification(s, k, *there)
        # what interpolation and the core do, the magnification multiplies
        near = NEAR + 1e-4 * np.abs(true)[:, None]
        gap = np.hypot(*(there[:, :, None] - here[:, None, :]))
        lost = int((~(gap < near).any(1)).sum())
        more = max(here.shape[1] - there.shape[1], 0)
        counts += lost, more, there.shape[1]
        back = np.stack(seen(s, k, *here))
        source = np.array([[s["beta_x"][k]], [s["beta_y"][k]]])
        misses += np.hypot(*(back - source)).tolist()
        quotient = mu[k][ours] / magnification(s, k, *here)
        quotient = quotient if signed else np.abs(quotient)
        errors += np.abs(quotient - 1)[np.abs(mu[k][ours]) < FAINTER].tolist()
    lost, more, total = counts.tolist()
    return {
        "lost": lost,
        "more": more,
        "images": total,
        "miss": float(f"{np.max(misses):.1e}"),
        "magnification": float(f"{np.max(errors):.1e}"),
    }


def measure(quick: bool) -> dict:
    """Rows of systems a second, each with what is wrong with its images."""
    many, few = (200, 5) if quick else (MANY, 200)
    fewer, checked = max(few // 8, 2), 50 if quick else 2000
    rows = []
    # what fits the cache is faster on a CPU
    ways = {"lensjax": True, "lensjax, one vmap": False}
    if not on_cpu():
        ways = {"lensjax": False}
    for found in in_turns(
        [
            *(Contender(name, ours, (many, blocks)) for name, blocks in ways.items()),
            *(
                Contender(f"lenstronomy, {how}", lenstronomy, (n, solver), rival=True)
                for how, n, solver in (
                    ("analytical", few, "analytical"),
                    ("default", fewer, "lenstronomy"),
                )
            ),
            Contender("caustics", caustics, (fewer,), rival=True),
        ],
        turns=1 if quick else 7,
    ):
        if isinstance(found, Missing):
            rows.append(row("SIE in shear", found))
            continue
        n = min(found.units, checked)
        if found.name == "lensjax":
            reference = found.answer
        longest = [np.nanmax(a[3][:n], 1) for a in (found.answer, reference)]
        signed = found.name != "caustics"
        of = judged([a[:n] for a in found.answer], n, signed)
        of["delay"] = float(f"{np.nanmedian(longest[0] / longest[1]):.6f}")
        good = of["lost"] == of["more"] == 0 and of["miss"] < MISS
        good &= of["magnification"] < 0.02
        require(good or not found.name.startswith("lensjax"), f"{found.name}: {of}")
        require(abs(of["delay"] - 1) < 1e-3, f"{found.name} has other delays: {of}")
        rows.append(row("SIE in shear", found, **of))
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
