"""The dataset `lens_galaxies`, which `lensjax ingest` prepares."""

from lensjax.catalogue import schema
from lensjax.catalogue.tfds_builder import Stored


class Builder(Stored):
    """Galaxies that may act as lenses: cutouts, PSFs, and what is measured of them."""

    FIELDS = schema.LENS
    STAMPS = {
        "image": "cutout, bands last [counts]",
        "psf": "effective PSF on the survey's pixels, each band of sum 1",
    }
