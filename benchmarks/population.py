"""How the embedded population compares: the tables of docs/mocks.md.

    python -m benchmarks.population --size 1500 [--data DIR]

Percentiles (16, 50, 84) of lens galaxies as measured on their cutouts, those of a
natural sample of the embedded population and, with --data, all of a folder of real
ones; of the sample itself; and how the measured ellipticity of the embedded galaxies'
light follows the one they were drawn with.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from lensjax import catalogue as catalogues
from lensjax import cosmology, light, photometry, psf
from lensjax.catalogue import plain
from lensjax.mock import MARGIN, ray_grid
from lensjax.mocks import population, sample, varied
from lensjax.mocks.system import Rendering
from lensjax.survey import HSC


def percentiles(values):
    return " ".join(f"{v:.2f}" for v in np.percentile(values, [16, 50, 84]))


@jax.jit
def measured(image):
    """Flux within 1 over that within 2 arcsec, and the adaptive Gaussian's size."""
    i = image[..., HSC.detection]
    m = photometry.moments(i)
    axis = jnp.arange(i.shape[0]) - (i.shape[0] - 1) / 2
    r = jnp.hypot((axis - m.x)[None, :], (axis - m.y)[:, None]) * HSC.pixel_scale
    fluxes = [jnp.where(r < edge, i, 0).sum() for edge in (1.0, 2.0)]
    size = (m.xx * m.yy - m.xy**2) ** 0.25 * HSC.pixel_scale
    return fluxes[0] / fluxes[1], size


def lens_rows(lenses, rows):
    """Name and percentiles of each measured quantity."""
    few = jax.tree.map(lambda a: np.asarray(a)[rows], lenses)
    growth, size = jax.lax.map(measured, jnp.asarray(few.image))
    g, r, i, z = few.mag.T
    return {
        "i within 2 arcsec": i,
        "g - r": g - r,
        "r - i": r - i,
        "i - z": i - z,
        "flux in i within 1 arcsec / within 2": growth,
        "size of the adaptive Gaussian [arcsec]": size,
        "background RMS in i, corner rule": few.background[:, HSC.detection],
    }


def source_rows(sources, scale):
    """Medians of sources: half-light radius by magnitude, colours."""
    mag = np.asarray(sources.mag)
    stamp = np.asarray(sources.image).mean(-1)
    axis = np.arange(stamp.shape[1]) - (stamp.shape[1] - 1) / 2
    r = np.hypot(axis, axis[:, None]).ravel()
    order = np.argsort(r)
    # a stamp's noise far out adds nothing on average
    light = np.cumsum(stamp.reshape(len(stamp), -1)[:, order], 1)
    light = light[:, r[order] < axis[-1]]
    half = np.array([r[order][np.searchsorted(one, one[-1] / 2)] for one in light])
    rows = {}
    for low, high in ((22.5, 23.5), (23.5, 24.2), (24.2, 25.0)):
        k = (mag[:, 2] >= low) & (mag[:, 2] < high)
        rows[f"radius at i {low:g} to {high:g} [arcsec]"] = half[k] * scale
    bright = mag[:, 2] < 25
    for name, a, b in (("g - r", 0, 1), ("r - i", 1, 2), ("i - z", 2, 3)):
        rows[name] = (mag[:, a] - mag[:, b])[bright]
    return rows


def moments_of_known_shapes(n):
    """Slope and scatter of the light's measured ellipticity against the true one."""
    keys = jax.random.split(jax.random.key(9), n)
    galaxies = population.ellipticals(jax.random.key(8), n, cosmology.PAPER)
    bright = 10 ** (-0.4 * (18.0 - HSC.zero_point))

    @jax.jit
    def both(args):
        key, galaxy = args
        kernel = psf.seeing(key, HSC)
        fine = population.FINE_PIXELS
        x, y = ray_grid((64 + 2 * MARGIN) * fine, HSC.pixel_scale / fine, float)
        shape = galaxy.radius, galaxy.sersic, galaxy.q, galaxy.phi
        scene = light.sersic(x, y, *shape)[..., None] * bright
        scene = scene * (HSC.pixel_scale / fine) ** 2
        image = psf.blur_and_sample(scene, kernel, fine)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        found = catalogues.measure(image, kernel, HSC)
        e = (1 - galaxy.q**2) / (1 + galaxy.q**2)
        true = jnp.stack([e * jnp.cos(2 * galaxy.phi), e * jnp.sin(2 * galaxy.phi)])
        return true, jnp.stack([found["ex"], found["ey"]])

    true, found = (np.ravel(a) for a in jax.lax.map(both, (keys, galaxies)))
    slope = (true * found).sum() / (true**2).sum()
    return slope, (found - slope * true).std()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, default=1500)
    parser.add_argument("--data", help="folder of real galaxies, in the plain layout")
    args = parser.parse_args()
    drawn, listing = population.catalogue(
        jax.random.key(0), 2500, 1000, HSC, cosmology.PAPER
    )
    rendering = Rendering(HSC, listing.source_pixel_scale)
    s = sample.draw(jax.random.key(1), args.size, drawn, rendering).systems
    columns = {"embedded": lens_rows(drawn.lenses, s.lens_index)}
    if args.data:
        real, listing = plain.read(args.data, HSC)
        n = len(listing.lens_id)
        columns[f"{n} real"] = lens_rows(real.lenses, np.arange(n))
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in columns["embedded"]:
        cells = [percentiles(column[name]) for column in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\nsources:")
    kinds = {"smooth": drawn.sources, "varied": population.catalogue(
        jax.random.key(0), 128, 1000, HSC, cosmology.PAPER, 0, varied.VARIED
    )[0].sources}  # fmt: skip
    if args.data:
        kinds["real"] = real.sources
    scale = listing.source_pixel_scale
    for kind, sources in kinds.items():
        cells = [
            f"{name} {np.median(v):.2f} ({len(v)})"
            for name, v in source_rows(sources, scale).items()
            if len(v)
        ]
        print(f"  {kind}: {', '.join(cells)}")
    print("\nthe sample:")
    for name, values in {
        "z_lens": s.z_lens,
        "z_source": s.z_source,
        "dispersion": s.vdisp,
        "theta_E": s.sie.theta_E,
        "arc peak": s.arc_peak,
        "log flux ratio": s.log_flux_ratio,
    }.items():
        print(f"  {name} {percentiles(values)}")
    print(f"  quads {(s.n_images == 4).mean():.1%}")
    slope, scatter = moments_of_known_shapes(400)
    print(
        f"ellipticity of the light: {slope:.2f} of the true one, scatter {scatter:.3f}"
    )


if __name__ == "__main__":
    main()
