"""Draw a sample of mock systems: `lensjax sample size=1000 out=DIR`.

Writes DIR/systems.parquet, one row a system; with save_images=true also one FITS file a
system, with the mock and the lensed source alone in every band.
"""

from pathlib import Path

import jax
import numpy as np
from astropy.io import fits

from lensjax import render
from lensjax.catalogue import Catalogue
from lensjax.commands import config, places, progress, provenance
from lensjax.commands.resolve import (
    catalogue_of,
    rendering_of,
    sample_of,
    survey_of,
)
from lensjax.learning.estimator import targets
from lensjax.learning.loader import galaxies_of
from lensjax.lens import ray_shoot
from lensjax.mocks import sample, system
from lensjax.mocks.sample import Sample
from lensjax.mocks.system import Rendering
from lensjax.plotting import pictures
from lensjax.storage import parquet

TOGETHER = 256  # images that are written from one reading of their galaxies


def save_images(
    folder: Path,
    drawn: Sample,
    catalogue: Catalogue,
    rendering: Rendering,
) -> None:
    """One FITS file a system: extensions G, R, I, Z and the arcs alone, G_ARC, ..."""
    bands = rendering.survey

    @jax.jit
    def render(systems, k, catalogue):
        row = jax.tree.map(lambda a: a[k], systems)
        image, arcs = system.layers(row, catalogue, rendering)
        return image + arcs, arcs

    folder.mkdir(parents=True, exist_ok=True)
    numbers = drawn.systems.number
    with progress.track("writing images", len(numbers), "images") as update:
        for k, number in enumerate(numbers):
            if k % TOGETHER == 0:
                some = np.arange(k, min(k + TOGETHER, len(numbers)))
                systems, few = galaxies_of(drawn.systems, catalogue, some, TOGETHER)
            hdus = [fits.PrimaryHDU()]
            layers = render(systems, k, few)
            for suffix, planes in zip(("", "_ARC"), layers, strict=True):
                for b, band in enumerate(bands.bands):
                    hdu = fits.ImageHDU(np.asarray(planes)[..., b], name=band + suffix)
                    hdu.header["PIXSCALE"] = (bands.pixel_scale, "arcsec per pixel")
                    hdu.header["MAGZERO"] = (bands.zero_point, "AB mag of 1 count")
                    hdus.append(hdu)
            path = folder / f"{system.identifier(number)}.fits"
            fits.HDUList(hdus).writeto(path, overwrite=True, checksum=True)
            update(k + 1)


def draw_pictures(
    folder: Path,
    drawn: Sample,
    catalogue: Catalogue,
    rendering: Rendering,
    shear: bool,
) -> None:
    """mocks.png, a sheet of them, and pipeline.png, how the first of these are made."""
    bands = rendering.survey
    shown = np.unique(np.linspace(0, len(drawn.systems.number) - 1, 24).astype(int))
    # those whose arcs one sees first
    shown = shown[np.argsort(-drawn.systems.arc_peak[shown], kind="stable")]
    systems, few = galaxies_of(drawn.systems, catalogue, shown)

    @jax.jit
    def layers(systems, few):
        return jax.lax.map(lambda s: system.layers(s, few, rendering), systems)

    @jax.jit
    def steps(row, few):
        image, source, psf = system.stamps(row, few, rendering)
        pixels = render.pixels_of(bands, psf, margin=0)
        x, y = ray_shoot(system.mass_of(row), *render.rays(pixels))
        seen = render.shine(source, x - row.beta_x, y - row.beta_y, pixels)
        return image, source, psf, seen.pattern

    rows = jax.tree.map(lambda a: a[shown], systems)
    images, arcs = map(np.asarray, layers(rows, few))
    truth = np.asarray(targets(rows))
    pictures.mocks(
        images + arcs,
        truth,
        bands,
        folder / "mocks.png",
        title="mocks and, beneath, their arcs alone; dashed: critical curve without "
        "external shear"
        if shear
        else "mocks and, beneath, their arcs alone; dashed: critical curve",
        arcs=arcs,
    )
    made, b = [], bands.detection
    for k in range(min(4, len(shown))):
        image, source, psf, seen = steps(jax.tree.map(lambda a, k=k: a[k], rows), few)
        own = 0 if source.image.shape[-1] == 1 else b
        made.append(
            pictures.Steps(
                np.asarray(image)[..., b],
                np.asarray(source.image)[..., own],
                np.asarray(psf)[..., b],
                np.asarray(seen)[..., own],
                arcs[k, ..., b],
                (images + arcs)[k],
            )
        )
    scale = rendering.source_pixel_scale
    pictures.pipeline(made, bands, scale, folder / "pipeline.png")


def run(settings: config.DrawConfig) -> int:
    """Draw, and write the table and the images."""
    out = Path(settings.out)
    places.folder("out", out)
    places.table("out", out / "systems.parquet", settings.overwrite)
    catalogue, listing = catalogue_of(settings)
    drawn = sample_of(settings, catalogue, listing)
    former = [*(out / "images").glob("[0-9]" * 10 + ".fits")]
    for stale in (*former, out / "mocks.png", out / "pipeline.png"):
        stale.unlink(missing_ok=True)
    table = sample.to_table(drawn, catalogue, listing, survey_of(settings))
    table.meta["provenance"] = provenance.collect(settings, listing)
    rendering = rendering_of(settings, listing)
    if settings.save_images:
        save_images(out / "images", drawn, catalogue, rendering)
    if settings.pictures:
        draw_pictures(out, drawn, catalogue, rendering, settings.shear > 0)
    parquet.write(table, out / "systems.parquet", overwrite=settings.overwrite)
    progress.say(f"{settings.size:,} systems in {out / 'systems.parquet'}")
    return 0
