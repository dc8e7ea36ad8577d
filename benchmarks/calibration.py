"""Do the errors of `lensjax fit` hold?  Fits of mocks, beside what they were made of.

    python -m benchmarks.calibration --out DIR [--mocks 2000] [--sampler laplace]

Draws mocks of the embedded population in HSC's bands, writes them as cutouts with their
PSF, fits them by the command, and compares theta_E, centre and ellipticity with the
truth: how often it lies within the middle 50, 68, 90 and 95 % of the posterior, by
theta_E over the seeing and by the gain of the arcs, and where it stands among the draws
(simulation-based calibration, Talts et al. 2018).  `--shear S` scatters an external
shear of S; `--alone` leaves out the galaxies beside the lens; `--varied` draws
galaxies as varied as in real cutouts, and `--masked` masks in those what the mock knows
to be a neighbour's.  What is in DIR already is not made again.
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from astropy.io import fits
from astropy.table import Table

from lensjax import cosmology, survey
from lensjax.commands import compiled, fit
from lensjax.commands.settings.fit import FitConfig
from lensjax.mocks import population, sample, segmentation, varied
from lensjax.mocks import system as systems
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering
from lensjax.storage import atomic, parquet

LEVELS = 0.5, 0.68, 0.9, 0.95
SEEING = 0.0, 1.2, 1.8, np.inf  # edges of theta_E over the FWHM in i
GAINS = 100.0, 500.0, 2000.0, np.inf  # edges of what arcs take off chi2
RANKS = 10  # bins of the histogram
GROSS = 0.3  # [arcsec] of theta_E: an outlier
NUMBERS = {
    "theta_E": "theta_E_arcsec",
    "x": "center_x_arcsec",
    "y": "center_y_arcsec",
    "ex": "ex",
    "ey": "ey",
}


def nothing_beside(key, x, y, bands):
    """No neighbours, in place of `population.neighbours`."""
    return jnp.zeros((*x.shape, len(bands.bands)), x.dtype)


def make(folder: Path, asked: argparse.Namespace) -> None:
    """Write mocks as cutouts, and the table of what they are."""
    truth, number = folder / "truth.parquet", asked.mocks
    if truth.exists():
        return
    key = jax.random.key(asked.seed)
    drawing = varied.VARIED if asked.varied or asked.masked else population.SMOOTH
    with contextlib.ExitStack() as stack:
        if asked.alone:
            patch = mock.patch.object(population, "neighbours", nothing_beside)
            stack.enter_context(patch)
        galaxies, listing = population.catalogue(
            key, number, number, survey.HSC, cosmology.PAPER, 0, drawing
        )
    rendering = Rendering(survey.HSC, population.SOURCE_PIXEL_SCALE, arc_noise=True)
    criteria = Criteria(shear=asked.shear, rotate=True, arc_peak=asked.peak)
    drawn = sample.draw(key, number, galaxies, rendering, criteria)
    mocks = folder / "mocks"
    mocks.mkdir(parents=True, exist_ok=True)
    table = sample.to_table(drawn, galaxies, listing, survey.HSC)

    @jax.jit
    def made(system):
        image, arcs = systems.layers(system, galaxies, rendering)
        psf = systems.stamps(system, galaxies, rendering)[2]
        mask = jnp.zeros(image.shape[:2], bool)
        if asked.masked:
            shown = systems.shown(system, arcs, galaxies, rendering)
            mask = (shown & segmentation.NEIGHBOUR) > 0
        return image + arcs, psf, mask

    for k, name in enumerate(table["id"]):
        one = jax.tree.map(lambda a, k=k: a[k], drawn.systems)
        image, psf, mask = (np.asarray(a) for a in made(one))
        hdus = [fits.PrimaryHDU()]
        for b, band in enumerate(survey.HSC.bands):
            for hdu, plane in ((band, image), (f"PSF_{band}", psf)):
                hdus.append(fits.ImageHDU(plane[..., b], name=hdu))
                hdus[-1].header["PIXSCALE"] = survey.HSC.pixel_scale
                hdus[-1].header["MAGZERO"] = survey.HSC.zero_point
        if asked.masked:
            hdus.append(fits.ImageHDU(mask.astype(np.uint8), name="MASK"))
        fits.HDUList(hdus).writeto(mocks / f"{name}.fits", overwrite=True)
    parquet.write(table, truth, overwrite=True)


def chosen(folder: Path, ids: Sequence[str]) -> Path:
    """A folder of links to these mocks."""
    here = folder / f"first{len(ids)}"
    here.mkdir(exist_ok=True)
    for one in ids:
        link = here / f"{one}.fits"
        if not link.exists():
            link.symlink_to((folder / "mocks" / link.name).resolve())
    return here


def ranks(folder: Path, name: str, truth: Table) -> dict[str, np.ndarray]:
    """Share of each lens's posterior below the truth, by number; nan: no model."""
    with np.load(folder / f"{name}.samples.npz") as file:
        names = file["name"].tolist()
        weight, draws = file["weight"], file["draws"]
    found = {}
    for number, column in NUMBERS.items():
        values = draws[..., names.index(number)]
        below = np.where(values < np.asarray(truth[column])[:, None], weight, 0).sum(1)
        found[number] = np.where(weight.sum(1) > 0, below, np.nan)
    return found


def coverage(rank: np.ndarray) -> str:
    """Cells of a row: how often the truth is in the middle of the posterior."""
    off = abs(2 * rank[np.isfinite(rank)] - 1)
    cells = [f"{np.mean(off < level):.3f}" for level in LEVELS]
    return f"{len(off)} | {' | '.join(cells)}"


def page(found: Table, truth: Table, rank: dict[str, np.ndarray]) -> str:
    """Tables in Markdown."""
    theta = np.asarray(truth["theta_E_arcsec"])
    off = np.asarray(found["theta_E_arcsec"]) - theta
    gain = np.nan_to_num(np.asarray(found["arc_gain"]))
    clean = np.array([not f for f in found["flags"]])
    arcs = gain >= GAINS[0]
    over = theta / survey.HSC.fwhm[survey.HSC.detection]
    rows = {"all with arcs": arcs, "without a flag": arcs & clean}
    for low, high in zip(SEEING[:-1], SEEING[1:], strict=True):
        rows[f"theta_E / FWHM {low:g} to {high:g}"] = (
            arcs & (over >= low) & (over < high)
        )
    for low, high in zip(GAINS[:-1], GAINS[1:], strict=True):
        rows[f"gain {low:g} to {high:g}"] = (gain >= low) & (gain < high)
    head = " | ".join(f"{level:.0%}" for level in LEVELS)
    lines = [
        f'| theta_E | lenses | {head} | half of 16-84 % | RMS | off by > {GROSS}" |',
        "|---|" + "---|" * (len(LEVELS) + 4),
    ]
    for name, chosen in rows.items():
        own = off[chosen & np.isfinite(off)]
        if not len(own):
            continue
        half = np.subtract(*np.percentile(own, [84, 16])) / 2
        lines.append(
            f"| {name} | {coverage(rank['theta_E'][chosen])} | {half:.3f} | "
            f"{np.sqrt(np.mean(own**2)):.3f} | {np.mean(abs(own) > GROSS):.1%} |"
        )
    lines += ["", f"| with arcs | lenses | {head} | ranks, {RANKS} bins |",
              "|---|" + "---|" * (len(LEVELS) + 2)]  # fmt: skip
    for number in NUMBERS:
        own = rank[number][arcs]
        counts, _ = np.histogram(own[np.isfinite(own)], RANKS, (0, 1))
        bins = " ".join(str(c) for c in counts)
        lines.append(f"| {number} | {coverage(own)} | {bins} |")
    flags = found.meta["flags"]
    lines += ["", f"{len(found)} mocks, {arcs.sum()} with arcs (gain above "
              f"{GAINS[0]:g}), {clean.sum()} without a flag; flags: "
              f"{', '.join(f'{n} {f}' for f, n in flags.items())}"]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Make, fit, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--mocks", type=int, default=2000)
    parser.add_argument("--shear", type=float, default=0.0)
    parser.add_argument("--alone", action="store_true", help="no galaxies beside")
    parser.add_argument("--varied", action="store_true", help="as real cutouts are")
    parser.add_argument("--masked", action="store_true", help="neighbours, by the mock")
    parser.add_argument("--peak", type=float, default=1.0, help="least of arcs [sigma]")
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--sampler", default="laplace")
    parser.add_argument("--first", type=int, help="fit so many of them only")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("keys", nargs="*", help="key=value of `lensjax fit` (numbers)")
    asked = parser.parse_args()
    compiled.keep()
    make(asked.out, asked)
    truth = parquet.read(asked.out / "truth.parquet")
    keys = dict(key.split("=", 1) for key in asked.keys)
    name = "_".join([asked.sampler, *(f"{k}{v}" for k, v in keys.items())])
    folder = asked.out / "mocks"
    if asked.first:
        truth, name = truth[: asked.first], f"first{asked.first}_{name}"
        folder = chosen(asked.out, truth["id"])
    table = asked.out / f"{name}.parquet"
    settings = FitConfig(
        cutouts=str(folder),
        out=str(table),
        survey="HSC",
        sampler=asked.sampler,
        pictures="false",
        workers=asked.workers,
        **{key: json.loads(value) for key, value in keys.items()},
    )
    settings.validate()
    if not table.exists():
        fit.run(settings)
    found = parquet.read(table)
    order = {str(n): k for k, n in enumerate(truth["id"])}
    truth = truth[[order[str(n)] for n in found["id"]]]
    text = page(found, truth, ranks(asked.out, name, truth))
    atomic.write(asked.out / f"{name}.md", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
