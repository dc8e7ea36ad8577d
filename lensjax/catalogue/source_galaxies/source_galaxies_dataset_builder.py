"""The dataset `source_galaxies`, which `lensjax ingest` prepares."""

from lensjax.catalogue import schema
from lensjax.catalogue.tfds_builder import Stored


class Builder(Stored):
    """Galaxies that may be lensed: redshifts, and stamps of nothing but the galaxy."""

    FIELDS = schema.SOURCE
    STAMPS = {"image": "stamp in the survey's bands, bands last [counts]"}
