"""What is stored of an ingested galaxy besides its stamps: names, types, units."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table


class Field(NamedTuple):
    """A number that is stored of every galaxy, or one of every band."""

    name: str  # as in `Lenses` and `Sources`, and in a record
    column: str  # in the table, whose columns end in their unit; one a band with {}
    dtype: type
    doc: str

    @property
    def unit(self) -> str | None:
        """Unit of the column."""
        units = {"deg": "deg", "kms": "km/s", "arcsec": "arcsec"}
        return units.get(self.column.rsplit("_", 1)[-1])

    @property
    def banded(self) -> bool:
        """Whether there is one number a band."""
        return "{}" in self.column

    def columns(self, bands: Sequence[str]) -> list[str]:
        """The names of its columns in a table."""
        if not self.banded:
            return [self.column]
        return [self.column.format(band.lower()) for band in bands]


PLACE = (
    Field("ra", "ra_deg", np.float64, "right ascension [deg]"),
    Field("dec", "dec_deg", np.float64, "declination [deg]"),
)
LENS = (
    *PLACE,
    Field("z", "z", np.float32, "spectroscopic redshift, nan where unknown"),
    Field("vdisp", "vdisp_kms", np.float32, "velocity dispersion [km/s], or nan"),
    Field("mag", "mag_{}", np.float32, "AB magnitude within 2 arcsec"),
    Field("flux", "flux_{}", np.float32, "all that is in the survey's cutout [counts]"),
    Field("background", "background_{}", np.float32, "RMS of the sky [counts]"),
    Field("x", "x_arcsec", np.float32, "centre of the light [arcsec]"),
    Field("y", "y_arcsec", np.float32, "centre of the light [arcsec]"),
    Field("ex", "ex", np.float32, "ellipticity of the light in i, PSF removed"),
    Field("ey", "ey", np.float32, "ellipticity of the light in i, PSF removed"),
)
SOURCE = (
    *PLACE,
    Field("z", "z", np.float32, "spectroscopic redshift"),
    Field("mag", "mag_{}", np.float32, "AB magnitude"),
    Field("snr", "snr", np.float32, "signal to noise of the flux in i"),
)


def to_table(
    fields: Sequence[Field],
    ids: Sequence[str],
    numbers: Mapping[str, np.ndarray],
    flags: Sequence[str],
    bands: Sequence[str],
) -> Table:
    """Galaxies as a table, one row each; `numbers` by the fields' names."""
    table = Table({"id": np.array(ids, object)})
    for field in fields:
        values = np.asarray(numbers.get(field.name, ()), field.dtype)
        names = field.columns(bands)
        for name, column in zip(names, values.reshape(-1, len(names)).T, strict=True):
            table[name] = np.ascontiguousarray(column)
            table[name].unit, table[name].description = field.unit, field.doc
    table["flags"] = np.array(flags, object)
    return table


def from_table(
    fields: Sequence[Field], table: Table, bands: Sequence[str]
) -> dict[str, Any]:
    """The fields' numbers, by name, of a table that `to_table` made."""
    numbers = {}
    for field in fields:
        values = [np.asarray(table[name]) for name in field.columns(bands)]
        numbers[field.name] = np.stack(values, -1) if field.banded else values[0]
    return numbers
