"""Tables that users bring, by columns: identifiers, numbers, positions.

Columns go by name in any case.  Identifiers stay text: a 64-bit id that passed through
a float is another galaxy's.  A number that no galaxy has, such as a magnitude of -99,
stands for one that was not measured: `Range` says what there is.
"""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from astropy import units

from lensjax.catalogue._table_files import Columns as Columns
from lensjax.catalogue._table_files import read as read

FEW_ROWS = 50  # VizieR's default limit
EXACT = 15  # digits that survive a float, and Excel


class Range(NamedTuple):
    """What values a number of a galaxy can have."""

    what: str  # "redshifts"
    least: float  # itself no value
    most: float
    unit: str = ""
    placeholders: tuple[float, ...] = ()  # in between, but stand for unknown

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which values there can be; False for nan and infinity, too."""
        inside = (values > self.least) & (values <= self.most)
        return inside & ~self.is_placeholder(values)

    def is_placeholder(self, values: np.ndarray) -> np.ndarray:
        """Which values would be possible, but stand for unknown."""
        return _among(values, self.placeholders)

    def known(
        self, values: np.ndarray, names: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """The values, nan where there can be no such, and a note on these.

        `names` are those of the galaxies, for the note; nan is blank, and not noted.
        """
        odd = ~self.holds(values) & ~np.isnan(values)
        if not odd.any():
            return values, []
        first = int(np.argmax(odd))
        return np.where(odd, np.nan, values), [
            f"{odd.sum()} {self.what} outside {self.least:g} to {self.most:g}"
            f"{self.unit}, or placeholders, are taken for unknown: {names[first]} has "
            f"{values[first]:g}"
        ]


_NINES = (99, 99.9, 99.99, 99.999)
_SMALL_NINES = (9.99, 9.999, 9.9999)
REDSHIFT = Range("redshifts", 0, 12, "", _SMALL_NINES)
MAGNITUDE = Range("magnitudes", 5, 40, "", _SMALL_NINES)  # AB
DISPERSION = Range("velocity dispersions", 50, 600, " km/s", _NINES)  # early types
NOISE_VAR = Range("noise variances", 0, 1e12, "", (*_NINES, 999, 999.9, 9999))
CONFIDENCE = Range("confidences", 0, 9)  # grades, the largest being the best

# of positions: 99.9, 9.999 and their like; but 9.9 and 9.99, which these may well be
_NO_ANGLES = [
    10.0**k - 10.0**-d for k in range(1, 6) for d in range(7 - k) if k > 1 or d > 2
]


def _among(values: np.ndarray, some: tuple[float, ...] | list[float]) -> np.ndarray:
    """Which values are one of some, to the precision of float32."""
    close = np.isclose(np.asarray(values)[..., None], some, rtol=2e-7, atol=0)
    return close.any(-1)


def has(table: Columns, *names: str) -> bool:
    """Whether there is a column of one of these names."""
    return not {n.lower() for n in names}.isdisjoint(k.lower() for k in table.cells)


def named(table: Columns, *names: str) -> np.ma.MaskedArray:
    """The column of the first of these names that there is; else the closest names."""
    return table.cells[_key(table, *names)]


OTHER_NAMES = {  # by which others call a column, beside what is spelt nearly so
    "z": {"redshift", "zspec", "z_spec", "zphot", "z_phot", "photoz", "z_lens", "zl"},
    "vdisp_kms": {"vdisp", "veldisp", "sigma", "sigma_v", "velocity_dispersion"},
    "noise_var": {"variance", "var"},
}


def overlooked(table: Columns, used: Iterable[str]) -> list[str]:
    """Notes on columns that are not read and seem to be one of those that would be.

    used: the names of the columns that are looked for.
    """
    used = [name.lower() for name in used]
    notes = []
    for key in table.cells:
        if (name := key.lower()) in used:
            continue
        absent = [u for u in used if not has(table, u)]
        meant = [u for u in absent if name in OTHER_NAMES.get(u, ())]
        meant += difflib.get_close_matches(name, [u for u in absent if len(u) > 2], 1)
        if meant:
            notes.append(
                f"column {key} of {table.path} is not read: call it {meant[0]} if it "
                "is that"
            )
    return notes


def _key(table: Columns, *names: str) -> str:
    for name in names:
        found = [key for key in table.cells if key.lower() == name.lower()]
        if len(found) > 1:
            raise ValueError(f"{table.path} has {' and '.join(found)}: keep one column")
        if found:
            return found[0]
    lower = {key.lower(): key for key in table.cells}
    near = difflib.get_close_matches(names[0].lower(), lower) or list(lower)
    have = ", ".join(lower[key] for key in near) or "no column at all"
    raise ValueError(f"{table.path} has no column {names[0]!r}; it has {have}")


def words(table: Columns, *names: str) -> np.ndarray:
    """A column as text, "" where blank."""
    column = named(table, *names)
    blank = np.ma.getmaskarray(column)
    if column.dtype.kind == "f":
        blank = blank | np.isnan(column.data)
    return np.where(blank, "", column.data.astype(str))


def texts(table: Columns, *names: str) -> np.ndarray:
    """Identifiers as text, "" where blank; ValueError where they were floats."""
    column, out = named(table, *names), words(table, *names)
    there = out[out != ""]
    if column.dtype.kind == "b" and len(there):
        raise ValueError(f"{table.path}: column {names[0]} holds true and false, no id")
    if column.dtype.kind == "f" and len(there) or _were_floats(there):
        raise ValueError(
            f"{table.path}: column {names[0]} holds floats, which have lost the last "
            "digits of 64-bit ids: export it as an integer or as text"
        )
    return out


def _were_floats(ids: np.ndarray) -> bool:
    """Whether text is that of floats; names such as 1.1 and 1.2 are not."""
    # a spreadsheet keeps 15 digits, and writes zeros for the others
    integers = ids[np.char.isdecimal(ids)]
    large = [text[EXACT:].strip("0") for text in integers if len(text) > EXACT + 2]
    if large and not any(large):
        return True
    others = ids[~np.char.isdecimal(ids)]
    whole = [re.fullmatch(r"[-+]?(\d+)\.0*", text) for text in others]
    if len(ids) and len(others) == len(ids) and all(whole):
        return True
    if any(match and len(match[1]) > EXACT for match in whole):
        return True
    power = r"\d+(\.\d*)?e[-+]\d+|\d+\.\d*e\d+"
    return any(re.fullmatch(power, text, re.I) for text in others)


def numbers(table: Columns, *names: str, unit: str | None = None) -> np.ndarray:
    """A column as floats, nan where blank; ValueError names a text that is none.

    In `unit`, "" for plain numbers, if the column tells its own; ValueError if that is
    of another kind.
    """
    key = _key(table, *names)
    column, scale = table.cells[key], _scale(table, key, unit)
    blank = np.ma.getmaskarray(column)
    if column.dtype.kind == "b" and not blank.all():
        raise ValueError(f"{table.path}: column {names[0]} holds true and false")
    if column.dtype.kind in "iufb":
        return np.where(blank, np.nan, column.data.astype(float)) * scale
    text = np.where(blank, "nan", column.data)
    if table.decimal != "." and len(text):  # of nothing, an error to numpy
        text = np.char.replace(text, table.decimal, ".")
    try:
        if not (np.char.find(text, "_") >= 0).any():  # 1_000 is a number to Python
            return text.astype(float) * scale
    except ValueError:
        pass
    row = next(k for k, word in enumerate(text) if not _is_number(word))
    raise ValueError(
        f"{table.path}: column {names[0]} has {str(column.data[row])!r} in row "
        f"{row + 1}, which is no number"
    )


def _scale(table: Columns, key: str, unit: str | None) -> float:
    given = table.units.get(key)
    if unit is None or given is None or given == units.Unit(unit):
        return 1.0
    # `astropy.cosmology.units.redshift`, half a second to import, is known by its name
    if unit == "" and str(given) == "redshift" or unit == "mag" and "mag" in str(given):
        return 1.0
    try:
        return given.to(unit)
    except units.UnitConversionError:
        wanted = unit or "a plain number"
        raise ValueError(
            f"{table.path}: column {key} is in {given}, not {wanted}: convert it"
        ) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def flags(table: Columns, *names: str) -> np.ndarray:
    """A column of numbers, or of true (1) and false (0), as floats; nan where blank."""
    column = named(table, *names)
    lower = np.char.lower(column.data.astype(str))
    truth = np.isin(lower, ("true", "t")), np.isin(lower, ("false", "f"))
    blank = np.ma.getmaskarray(column)
    if (blank | truth[0] | truth[1]).all():
        return np.where(blank, np.nan, truth[0].astype(float))
    return numbers(table, *names)


def positions(
    table: Columns, ra: tuple[str, ...] = ("ra",), dec: tuple[str, ...] = ("dec",)
) -> tuple[np.ndarray, np.ndarray, str]:
    """Right ascension and declination [deg], and what is odd about them, "" if nothing.

    Both are nan where one is a placeholder or no position.  Raises ValueError where
    they cannot be degrees.
    """
    x, y = numbers(table, *ra, unit="deg"), numbers(table, *dec, unit="deg")
    known, row = on_the_sky(x, y)
    if row is not None:
        name, value, remedy = (
            ("dec", y[row], "swap ra and dec, both in degrees")
            if abs(y[row]) > 90
            else ("ra", x[row], "give 0 to 360 degrees, ra and dec not swapped")
        )
        raise ValueError(
            f"{table.path}: {name} is {value:g} in row {row + 1}: {remedy}"
        )
    x, y = np.where(known, x, np.nan) % 360, np.where(known, y, np.nan)
    good = x[known]
    if len(good) > 1 and good.max() < 24 and np.ptp(good) > 1:
        return x, y, "no ra is above 24: if they are hours, multiply them by 15"
    return x, y, ""


def on_the_sky(
    ra: np.ndarray, dec: np.ndarray, least: float = 0.0
) -> tuple[np.ndarray, int | None]:
    """Which positions [deg] there can be, and a row that shows they are no degrees.

    ra goes from `least` to 360.  A placeholder, such as -99 or 0 for both, says
    nothing of the others; nor does an impossible number, unless the two could be
    swapped, ra counts from -180, or half of all are so.
    """
    sizes = np.abs(ra), np.abs(dec)
    nines = [_among(size, _NO_ANGLES) | (size >= 999) for size in sizes]
    same = (ra == dec) & ((ra <= 0) | nines[0])
    unknown = (
        ~np.isfinite(ra + dec)
        | same
        | (nines[0] & ((ra < 0) | (sizes[0] > 360)))
        | (nines[1] & ((dec < 0) | (sizes[1] > 90)))
    )
    off_dec = ~unknown & (sizes[1] > 90)
    off = off_dec | ~unknown & ((ra < least) | (ra > 360))
    telling = off_dec & (sizes[0] <= 90) & (dec >= 0) | off & (ra < 0) & (ra >= -180)
    if 2 * off.sum() >= max((~unknown).sum(), 1):
        telling = off
    row = int(np.argmax(telling)) if telling.any() else None
    return ~unknown & ~off, row


def duplicates(ids: np.ndarray) -> np.ndarray:
    """Whether an id that is not blank stood in a row before."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again & (ids != "")
