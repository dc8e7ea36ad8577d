"""Draw a sample of mock systems: `lensjax sample size=1000 out=DIR`.

Writes DIR/systems.parquet, one row a system; with save_images=true also one FITS file a
system, with the mock and the lensed source alone in every band.
"""

import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from astropy.io import fits

from lensjax import cosmology, render, survey
from lensjax.catalogue import Catalogue, Listing, ingested, plain
from lensjax.commands import config, progress, provenance
from lensjax.learning import train
from lensjax.learning.loader import galaxies_of
from lensjax.lens import ray_shoot
from lensjax.mocks import population, sample, system
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.sample import Sample
from lensjax.mocks.system import Rendering
from lensjax.plotting import pictures
from lensjax.storage import parquet
from lensjax.survey import Survey

COSMOLOGY = cosmology.PAPER
LARGEST = 0.4  # of the memory: larger catalogues are read when due
TOGETHER = 256  # images that are written from one reading of their galaxies


def survey_of(settings: config.SampleConfig) -> Survey:
    """The survey that a configuration names."""
    return survey.named(settings.survey)


def rendering_of(settings: config.SampleConfig, listing: Listing) -> Rendering:
    """How the systems of a configuration become images."""
    return Rendering(
        survey_of(settings),
        listing.source_pixel_scale,
        settings.arc_noise,
        settings.lens_only,
    )


def criteria_of(settings: config.SampleConfig) -> Criteria:
    """What a configuration accepts."""
    names = set(Criteria._fields) - {"cap"}
    return Criteria(
        cap=settings.most_in_bin, **{name: getattr(settings, name) for name in names}
    )


def catalogue_of(settings: config.SampleConfig) -> tuple[Catalogue, Listing]:
    """The galaxies that a configuration names: real stamps, or the population's."""
    if settings.data is not None:
        try:
            catalogue, listing = _reader(settings)(
                settings.data, survey_of(settings), settings.dither, settings.sources
            )
        except ValueError as error:
            raise config.ConfigError(f"data: {error}") from error
    else:
        key = jax.random.fold_in(jax.random.key(settings.sample_seed), 0)
        catalogue, listing = population.catalogue(
            key,
            settings.n_lenses,
            settings.n_sources,
            survey_of(settings),
            COSMOLOGY,
            settings.dither,
        )
    progress.say(
        f"{len(listing.lens_id):,} lens galaxies and {len(listing.source_id):,} sources"
        f": {listing.origin}"
    )
    for note in listing.notes:
        progress.say(f"  note: {note}")
    return _boosted(catalogue, settings.source_boost), listing


def _reader(settings: config.SampleConfig) -> Callable:
    """What reads the folder: a plain one, or an ingested one, whole or when due."""
    if not ingested.is_ingested(settings.data):
        if settings.stream == "true":
            raise ValueError("stream=true needs a folder made by `lensjax ingest`")
        return plain.read
    # endless training draws among all galaxies: they must be in memory
    if settings.stream == "auto" and not getattr(settings, "endless", False):
        files = ingested.summary_of(settings.data)["files"].values()
        large = sum(file["bytes"] for file in files) > LARGEST * _memory()
        return ingested.stream if large else ingested.read
    return ingested.stream if settings.stream == "true" else ingested.read


def _memory() -> float:
    """Bytes of the memory that JAX's arrays are in."""
    stats = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit", host)


def _boosted(catalogue: Catalogue, magnitudes: float) -> Catalogue:
    """The catalogue with brighter sources (paper, sect. 5.1)."""
    if not magnitudes:
        return catalogue
    sources = catalogue.sources
    flux, mag = sources.flux * 10 ** (0.4 * magnitudes), sources.mag - magnitudes
    return catalogue._replace(sources=sources._replace(flux=flux, mag=mag))


def sample_of(
    settings: config.SampleConfig, catalogue: Catalogue, listing: Listing
) -> Sample:
    """The sample that a configuration asks for."""
    key = jax.random.fold_in(jax.random.key(settings.sample_seed), 1)
    with progress.track("drawing systems", settings.size, "systems") as update:
        try:
            drawn = sample.draw(
                key,
                settings.size,
                catalogue,
                rendering_of(settings, listing),
                criteria_of(settings),
                COSMOLOGY,
                progress=update,
            )
        except ValueError as error:
            raise config.ConfigError(str(error)) from error
    counts = ", ".join(f"{n:,} {name}" for name, n in drawn.counts.items())
    progress.say(f"proposals: {counts}")
    return drawn


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
    settings: config.SampleConfig,
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
    truth = np.asarray(train.targets(rows))
    pictures.mocks(
        images + arcs,
        truth,
        bands,
        folder / "mocks.png",
        title="mocks and, beneath, their arcs alone; dashed: critical curve without "
        "external shear"
        if settings.shear
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
    try:
        out.mkdir(parents=True, exist_ok=True)
        parquet.check_writable(out / "systems.parquet", settings.overwrite)
    except OSError as error:
        raise config.ConfigError(f"out: {out}: {error.strerror}") from error
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    catalogue, listing = catalogue_of(settings)
    drawn = sample_of(settings, catalogue, listing)
    former = [*(out / "images").glob("[0-9]" * 10 + ".fits")]
    for stale in (*former, out / "mocks.png", out / "pipeline.png"):
        stale.unlink(missing_ok=True)
    table = sample.to_table(drawn, catalogue, listing, survey_of(settings))
    table.meta["provenance"] = provenance.collect(settings, listing)
    if settings.save_images:
        save_images(out / "images", drawn, catalogue, rendering_of(settings, listing))
    if settings.pictures:
        draw_pictures(out, drawn, catalogue, rendering_of(settings, listing), settings)
    parquet.write(table, out / "systems.parquet", overwrite=settings.overwrite)
    progress.say(f"{settings.size:,} systems in {out / 'systems.parquet'}")
    return 0
