"""Tables that users bring: CSV, ECSV, Parquet or FITS, by columns with blanks masked.

Columns go by name in any case.  Identifiers stay text: a 64-bit id that passed through
a float is another galaxy's.
"""

import csv
import difflib
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table
from pyarrow import csv as arrow_csv

FEW_ROWS = 50  # VizieR's default limit
_BLANK = ("", "null", "none", "nan", "--", "n/a")
_FLOAT = re.compile(r"\d+\.\d*(e[-+]?\d+)?|\d+e[-+]\d+", re.I)


class Columns(NamedTuple):
    """A table's columns; rows say how many cells each has."""

    path: str  # for messages
    cells: dict[str, np.ma.MaskedArray]  # by name; text where the format has no types
    rows: int


def read(table: str | Path | Table) -> Columns:
    """Read a table's columns; ValueError, naming file and remedy, where it is none.

    CSV may begin with lines of comment, such as CasJobs' #Table1.
    """
    if isinstance(table, Table):
        return _columns("the table", table)
    path = Path(table)
    if not path.is_file():
        raise ValueError(f"{path} is no file: give a .csv, .ecsv, .parquet or .fits")
    try:
        kind = "".join(path.suffixes).lower()
        if kind.endswith((".parquet", ".pq")):
            return _arrow(path, pq.read_table(path))
        if kind.endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
            return _columns(str(path), _astropy(path, "fits"))
        raw = path.read_bytes()
        if not raw.strip():
            raise ValueError("is empty")
        if raw.startswith(b"# %ECSV"):
            return _columns(str(path), _astropy(path, "ascii.ecsv"))
        return _csv(path, raw)
    except Exception as error:  # each format has errors of its own
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read as a table ({text}): save it as .csv, .ecsv, "
            ".parquet or .fits"
        ) from error


def _astropy(path: Path, kind: str) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that astropy does not know
        return Table.read(path, format=kind)


def _columns(name: str, table: Table) -> Columns:
    cells = {}
    for key in table.colnames:
        data = np.ma.asarray(table[key])
        if data.dtype.kind == "S":
            text = np.char.decode(data.filled(b""), "utf-8")
            data = np.ma.array(text, mask=data.mask)
        cells[key] = data
    return Columns(name, cells, len(table))


def _arrow(path: Path, table: pa.Table) -> Columns:
    cells = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        blank = column.is_null().to_numpy()
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            values = column.fill_null(0).to_numpy()
        else:
            try:
                values = np.array(
                    column.cast(pa.string()).fill_null("").to_pylist(), str
                )
            except pa.ArrowInvalid:
                continue  # lists, structures
        cells[name] = np.ma.array(values, mask=blank)
    return Columns(str(path), cells, table.num_rows)


def _csv(path: Path, raw: bytes) -> Columns:
    """All as text: what is a number is known by those who ask for numbers."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").splitlines()
    while lines[0].startswith(b"#") and b"," not in lines[0]:
        lines = lines[1:]
    names = next(csv.reader([lines[0].decode().removeprefix("#")]))
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"a column stands twice in {', '.join(names)}")
    as_text = pa.schema([(name, pa.string()) for name in names])
    if not b"".join(lines[1:]).strip():
        return _arrow(path, as_text.empty_table())
    table = arrow_csv.read_csv(
        io.BytesIO(b"\n".join(lines[1:])),
        arrow_csv.ReadOptions(column_names=names),
        convert_options=arrow_csv.ConvertOptions(column_types=as_text),
    )
    return _arrow(path, table)


def named(table: Columns, *names: str) -> np.ma.MaskedArray:
    """The column of the first of these names that there is; else the closest names."""
    lower = {key.lower(): key for key in table.cells}
    for name in names:
        if name.lower() in lower:
            return table.cells[lower[name.lower()]]
    near = difflib.get_close_matches(names[0].lower(), lower) or list(lower)
    have = ", ".join(lower[key] for key in near) or "no column at all"
    raise ValueError(f"{table.path} has no column {names[0]!r}; it has {have}")


def texts(table: Columns, *names: str) -> np.ndarray:
    """A column as text, "" where blank; ValueError where ids went through floats."""
    column = named(table, *names)
    found = column.dtype.kind
    if found not in "iuf":
        out = np.char.strip(np.asarray(column.filled(""), str))
        found = "f" if any(map(_FLOAT.fullmatch, out)) else found
    else:
        out = np.where(np.ma.getmaskarray(column), "", column.data.astype(str))
    if found == "f" and (out != "").any():
        raise ValueError(
            f"{table.path}: column {names[0]} holds floats, which have lost the last "
            "digits of 64-bit ids: export it as an integer or as text"
        )
    return out


def numbers(table: Columns, *names: str) -> np.ndarray:
    """A column as floats, nan where blank; ValueError names a text that is none."""
    column = named(table, *names)
    blank = np.ma.getmaskarray(column)
    if column.dtype.kind in "iufb":
        return np.where(blank, np.nan, column.data.astype(float))
    text = np.char.strip(np.asarray(column.filled(""), str))
    blank = blank | np.isin(np.char.lower(text), _BLANK)
    text = np.where(blank, "nan", text)
    try:
        return text.astype(float)
    except ValueError:
        pass
    for row, word in enumerate(text):
        try:
            float(word)
        except ValueError:
            raise ValueError(
                f"{table.path}: column {names[0]} has {str(word)!r} in row {row + 1}, "
                "which is no number"
            ) from None
    raise AssertionError("unreachable")


def positions(
    table: Columns, ra: tuple[str, ...] = ("ra",), dec: tuple[str, ...] = ("dec",)
) -> tuple[np.ndarray, np.ndarray, str]:
    """Right ascension and declination [deg], and what is odd about them, "" if nothing.

    Raises ValueError where they cannot be degrees.
    """
    x, y = numbers(table, *ra), numbers(table, *dec)
    for name, value, wrong, remedy in (
        ("dec", y, np.abs(y) > 90, "swap ra and dec, both in degrees"),
        (
            "ra",
            x,
            (x < 0) | (x >= 360),
            "give 0 to 360 degrees, ra and dec not swapped",
        ),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{table.path}: {name} is {value[row]:g} in row {row + 1}: {remedy}"
            )
    good = x[np.isfinite(x)]
    if len(good) > 1 and good.max() < 24 and np.ptp(good) > 1:
        return x, y, "no ra is above 24: if they are hours, multiply them by 15"
    return x, y, ""


def duplicates(ids: np.ndarray) -> np.ndarray:
    """Whether an id that is not blank stood in a row before."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again & (ids != "")
