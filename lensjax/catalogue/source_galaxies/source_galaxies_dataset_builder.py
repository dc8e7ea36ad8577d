"""The dataset `source_galaxies`, which `python -m experiments.ingest` prepares."""

from lensjax.catalogue import fields
from lensjax.catalogue.stored import Stored


class Builder(Stored):
    """Galaxies that may be lensed: redshifts, and stamps of nothing but the galaxy."""

    FIELDS = fields.SOURCE
    STAMPS = {"image": "stamp in the survey's bands, bands last [counts]"}
