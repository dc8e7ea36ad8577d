"""The lens equation: images of point sources behind an SIE in shear, all of them.

    python -m benchmarks.equation [--quick] [--out FILE.json]

Positions, magnifications and delays of many systems; codes that take one system at a
time do fewer of them.  Images are held against a dense search along the polar angle, in
numpy and with the textbook's deflection: who loses some is told so, lensjax fails.
"""

import numpy as np

from benchmarks import command
from benchmarks.accuracy_images import dense_search
from benchmarks.record import require, row
from benchmarks.turns import Contender, Missing, in_turns

SLOTS = 8
MANY = 100_000
H0, OM0, Z_LENS, Z_SOURCE = 72.0, 0.32, 0.5, 2.0
NEAR = 2e-3  # arcsec in which an image of the dense search must be met


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


def ours(n):
    """By lensjax in float32, all in one compiled call."""
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

    # a CPU is some 15 % faster with what fits its cache
    cpu = jax.default_backend() == "cpu"
    all_of = jax.jit(in_blocks if cpu else jax.vmap(one))

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


def lost(answer, n: int) -> tuple[int, int]:
    """Images of the dense search that an answer lacks, and how many there are."""
    s, missed, total = systems(n), 0, 0
    x, y, magnification, _ = (np.float64(a) for a in answer)
    for k in range(n):
        there = np.stack(dense_search(s, k, 8192))
        here = np.stack([x[k], y[k]])
        # what interpolation and the core do, the magnification multiplies
        near = NEAR + 1e-4 * np.abs(magnification[k])
        gap = np.hypot(*(there[:, :, None] - here[:, None, :]))
        missed += int((~(gap < near).any(1)).sum())
        total += there.shape[1]
    return missed, total


def measure(quick: bool) -> dict:
    """Rows of systems a second, each with the images that it lost."""
    many, few = (200, 5) if quick else (MANY, 200)
    checked = 50 if quick else 2000
    rows = []
    for found in in_turns(
        [
            Contender("lensjax", ours, (many,)),
            Contender("lenstronomy, analytical", lenstronomy, (few, "analytical")),
            Contender(
                "lenstronomy, default", lenstronomy, (max(few // 8, 2), "lenstronomy")
            ),
            Contender("caustics", caustics, (max(few // 8, 2),)),
        ],
        turns=1 if quick else 7,
    ):
        if isinstance(found, Missing):
            rows.append(row("SIE in shear", found))
            continue
        n = min(found.units, checked)
        missed, images = lost([a[:n] for a in found.answer], n)
        if found.name == "lensjax":
            require(missed == 0, f"lensjax lost {missed} of {images} images")
            reference = found.answer
        delays = [np.nanmax(a[3][:n], 1) for a in (found.answer, reference)]
        rows.append(
            row(
                "SIE in shear",
                found,
                lost=missed,
                images=images,
                delay=float(f"{np.nanmedian(delays[0] / delays[1]):.6f}"),
            )
        )
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
