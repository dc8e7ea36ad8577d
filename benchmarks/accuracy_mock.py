"""How exact the arcs of `lensjax.mock` are, and what they cost: a table.

    python -m benchmarks.accuracy_mock --systems 32 [--data DIR]

Arcs of typical systems (theta_E 0.7 to 1.6 arcsec, sources of i = 24 to 25.5) rendered
at several supersamplings against a twelvefold one: root mean square of the difference
per pixel in the worst band, in per cent of its sky noise, and of the flux in per cent.
With --data, real stamps from that folder are lensed besides.  Times are for one mock
in a batch of 16 on one device, compilation apart.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from lensjax import cosmology, light, mock, psf, sie
from lensjax.catalogue import plain
from lensjax.lens import Lens
from lensjax.mocks import population
from lensjax.shear import Shear
from lensjax.survey import HSC

REFERENCE = 12
COLOUR = np.array([0.3, 0.05, 0.0, -0.12])  # of the sources, relative to i [mag]

arcs = jax.jit(mock.arcs, static_argnums=(5, 6))
draw_source = jax.jit(lambda key: population.source(key, cosmology.PAPER, HSC)[0])
draw_psf = jax.jit(lambda key: psf.seeing(key, HSC))


def sersic(n, radius):
    """Stamps of Sersic index `n` and half-light `radius` [arcsec], by number."""
    x, y = mock.ray_grid(96, 0.03, jnp.float32)
    return lambda k: light.sersic(x, y, radius, n, 0.7, 0.4 + k)[..., None]


def errors(stamp_of, scale, systems, factors):
    """(systems, factor, 2): RMS over sky and flux error [per cent]."""
    rng, sky, found = np.random.default_rng(3), np.array(HSC.sky_sigma), []
    for k in range(systems):
        theta_E, q, phi = (
            rng.uniform(*r) for r in ((0.7, 1.6), (0.5, 0.95), (0, np.pi))
        )
        beta = theta_E * rng.uniform(0, 0.35) * np.exp(2j * np.pi * rng.uniform())
        flux = 10 ** (-0.4 * (rng.uniform(24, 25.5) + COLOUR - HSC.zero_point))
        stamp = stamp_of(k)
        lens = Lens(sie.from_axis_ratio(theta_E, q, phi, 0.02, -0.03), Shear(0.0, 0.0))
        source = mock.Source(stamp / stamp.sum((0, 1)), flux, scale)
        case = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float32),
            (lens, 0.02 + beta.real, beta.imag - 0.03, source),
        )
        psf = draw_psf(jax.random.key(k))
        reference, *seen = (
            np.asarray(arcs(*case, psf, HSC, s), float) for s in (REFERENCE, *factors)
        )
        found.append(
            [
                (
                    100 * (np.sqrt(((a - reference) ** 2).mean((0, 1))) / sky).max(),
                    100 * np.abs(a.sum((0, 1)) / reference.sum((0, 1)) - 1).max(),
                )
                for a in seen
            ]
        )
    return np.array(found)


def milliseconds(factor, batch=16):
    """Shortest time of one mock among `batch` rendered one after the other."""
    stamp, psf = draw_source(jax.random.key(1)), draw_psf(jax.random.key(2))
    source = mock.Source(stamp, jnp.ones(4), population.SOURCE_PIXEL_SCALE)

    @jax.jit
    def many(x):
        lens = Lens(sie.from_axis_ratio(1.1, 0.7, 0.3), Shear(0.0, 0.0))
        return jax.lax.map(
            lambda b: mock.arcs(lens, b, b, source, psf, HSC, factor).sum(), x
        )

    x, times = jnp.linspace(0.0, 0.1, batch), []
    many(x).block_until_ready()
    for _ in range(9):
        start = time.perf_counter()
        many(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / batch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--systems", type=int, default=32)
    parser.add_argument("--data", help="folder of real stamps, in the plain layout")
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 3, 4, 6])
    args = parser.parse_args()

    sources = {
        "population": lambda k: draw_source(jax.random.key(100 + k)),
        "Sersic n 1, R 0.2": sersic(1.0, 0.2),
        "Sersic n 1, R 0.1": sersic(1.0, 0.1),
        "Sersic n 4, R 0.2": sersic(4.0, 0.2),
    }
    scales = dict.fromkeys(sources, population.SOURCE_PIXEL_SCALE)
    if args.data:
        galaxies, listing = plain.read(args.data, HSC)
        stamps = galaxies.sources.image
        sources["real stamps"] = lambda k: stamps[k % len(stamps)]
        scales["real stamps"] = listing.source_pixel_scale

    print(f"device {jax.devices()[0].device_kind}, {args.systems} systems a row")
    print(f"{'source':20s} {'rays':>4s} {'RMS / sky [%]':>16s} {'flux error [%]':>16s}")
    for name, stamp_of in sources.items():
        found = errors(stamp_of, scales[name], args.systems, args.factors)
        for factor, (rms, flux) in zip(
            args.factors, np.moveaxis(found, 0, -1), strict=True
        ):
            print(
                f"{name:20s} {factor:4d} {np.median(rms):8.3f} {rms.max():7.3f} "
                f"{np.median(flux):8.3f} {flux.max():7.3f}",
                flush=True,
            )
    print("(median and largest)")
    for factor in args.factors:
        print(f"{factor} rays a pixel side: {milliseconds(factor):.2f} ms a mock")


if __name__ == "__main__":
    main()
