"""The dataset `lens_galaxies`, which `python -m experiments.ingest` prepares."""

from lensjax.catalogue import fields
from lensjax.catalogue.stored import Stored


class Builder(Stored):
    """Galaxies that may act as lenses: cutouts, PSFs, and what is measured of them."""

    FIELDS = fields.LENS
    STAMPS = {
        "image": "cutout, bands last [counts]",
        "psf": "effective PSF on the survey's pixels, each band of sum 1",
    }
