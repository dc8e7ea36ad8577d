"""Draw a sample of mock systems: `python -m experiments.sample size=1000 out=DIR`.

Writes DIR/systems.parquet, one row a system; with save_images=true also one FITS file a
system, with the mock and the lensed source alone in every band.
"""

from pathlib import Path

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("sample")

import jax
import numpy as np
from astropy.io import fits

from experiments import progress, provenance
from lensjax import population, sample, survey, system, tables
from lensjax.catalogue import Catalogue, Listing, plain
from lensjax.cosmology import FlatLambdaCDM
from lensjax.mock import arcs
from lensjax.sample import Criteria, Sample
from lensjax.survey import Survey

SURVEY = survey.HSC
COSMOLOGY = FlatLambdaCDM()


def catalogue_of(settings: config.SampleConfig) -> tuple[Catalogue, Listing]:
    """The galaxies that a configuration names: real stamps, or the population's."""
    if settings.data is not None:
        try:
            catalogue, listing = plain.read(settings.data, SURVEY)
        except ValueError as error:
            raise config.ConfigError(f"data: {error}") from error
    else:
        key = jax.random.fold_in(jax.random.key(settings.sample_seed), 0)
        catalogue, listing = population.catalogue(
            key, settings.n_lenses, settings.n_sources, SURVEY, COSMOLOGY
        )
    progress.say(
        f"{len(listing.lens_id):,} lens galaxies and {len(listing.source_id):,} sources"
        f": {listing.origin}"
    )
    for note in listing.notes:
        progress.say(f"  note: {note}")
    return catalogue, listing


def sample_of(
    settings: config.SampleConfig, catalogue: Catalogue, listing: Listing
) -> Sample:
    """The sample that a configuration asks for."""
    criteria = Criteria(
        theta_E_min=settings.theta_E_min,
        theta_E_max=settings.theta_E_max,
        multiplicity=settings.multiplicity,
        arc_peak=settings.arc_peak,
        rotate=settings.rotate,
        cap=settings.most_in_bin,
    )
    key = jax.random.fold_in(jax.random.key(settings.sample_seed), 1)
    with progress.track("drawing systems", settings.size, "systems") as update:
        try:
            drawn = sample.draw(
                key,
                settings.size,
                catalogue,
                SURVEY,
                listing.source_pixel_scale,
                criteria,
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
    listing: Listing,
    bands: Survey = SURVEY,
) -> None:
    """One FITS file a system: extensions G, R, I, Z and the arcs alone, G_ARC, ..."""

    @jax.jit
    def render(row, catalogue):
        image, source, psf = system.stamps(row, catalogue, listing.source_pixel_scale)
        lensed = arcs(system.mass_of(row), row.beta_x, row.beta_y, source, psf, bands)
        return image + lensed, lensed

    folder.mkdir(parents=True, exist_ok=True)
    numbers = drawn.systems.number
    with progress.track("writing images", len(numbers), "images") as update:
        for k, number in enumerate(numbers):
            row = jax.tree.map(lambda a, k=k: a[k], drawn.systems)
            hdus = [fits.PrimaryHDU()]
            for suffix, planes in zip(
                ("", "_ARC"), render(row, catalogue), strict=True
            ):
                for b, band in enumerate(bands.bands):
                    hdu = fits.ImageHDU(np.asarray(planes)[..., b], name=band + suffix)
                    hdu.header["PIXSCALE"] = (bands.pixel_scale, "arcsec per pixel")
                    hdu.header["MAGZERO"] = (bands.zero_point, "AB mag of 1 count")
                    hdus.append(hdu)
            path = folder / f"{system.identifier(number)}.fits"
            fits.HDUList(hdus).writeto(path, overwrite=True, checksum=True)
            update(k + 1)


def run(settings: config.DrawConfig) -> int:
    """Draw, and write the table and the images."""
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tables.check_writable(out / "systems.parquet", settings.overwrite)
    except OSError as error:
        raise config.ConfigError(f"out: {out}: {error.strerror}") from error
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    catalogue, listing = catalogue_of(settings)
    drawn = sample_of(settings, catalogue, listing)
    for stale in (out / "images").glob("[0-9]" * 10 + ".fits"):  # of a former sample
        stale.unlink()
    table = sample.to_table(drawn, catalogue, listing, SURVEY)
    table.meta["provenance"] = provenance.collect(settings, listing)
    if settings.save_images:
        save_images(out / "images", drawn, catalogue, listing)
    tables.write(table, out / "systems.parquet", overwrite=settings.overwrite)
    progress.say(f"{settings.size:,} systems in {out / 'systems.parquet'}")
    return 0


if __name__ == "__main__":
    config.main("sample", run)
