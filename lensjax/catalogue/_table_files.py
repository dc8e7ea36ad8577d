"""A table that a user brings, opened: CSV, ECSV, Parquet or FITS, by columns.

Whatever the format, what comes out is alike: numbers in the machine's byte order, text
without the blanks around it, and a mask where a cell says nothing.
"""

import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.table import Table

FORMATS = ".csv, .tsv, .ecsv, .parquet or .fits"
BLANK = (
    *("", "-", "--", "---", "...", "?", "null", "none", "nil", "nan", "na", "n/a"),
    *("#n/a", "<na>", "masked", "\\n"),
)
_NAME = re.compile(r"[^\W\d][\w ]*")  # of a column; no path
_NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?", re.I)


class Columns(NamedTuple):
    """A table's columns; rows say how many cells each has."""

    path: str  # for messages
    cells: dict[str, np.ma.MaskedArray]  # by name; text where the format has no types
    rows: int
    decimal: str = "."  # what stands between a number's whole part and its fraction
    units: dict[str, Any] = {}  # astropy's, by name, where the format tells them


def read(table: str | Path | Table) -> Columns:
    """Read a table's columns; ValueError, naming file and remedy, where it is none.

    A text's cells may be separated by commas, semicolons, tabs or bars; it may be
    UTF-8, UTF-16 or Latin-1, have lines of comment (#), and, as VizieR's, units and
    dashes below the names.  Numbers between semicolons may have decimal commas.
    Columns that hold neither numbers nor text, such as lists, are passed over.
    """
    if isinstance(table, Table):
        return _columns("the table", table)
    path = Path(table)
    if not path.is_file():
        raise ValueError(f"{path} is no file: give a {FORMATS}")
    try:
        return _opened(path)
    except Exception as error:  # each format has errors of its own
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read as a table ({text}): save it as {FORMATS}"
        ) from error


def _opened(path: Path) -> Columns:
    """By suffix, or by the first bytes where that says nothing."""
    name = path.name.lower()
    with open(path, "rb") as file:
        head = file.read(8)
    if name.endswith((".parquet", ".pq")) or head.startswith(b"PAR1"):
        with pq.ParquetFile(path) as file:
            return _arrow(str(path), file.read())
    if re.search(r"\.fits?(\.gz)?$", name) or head == b"SIMPLE  ":
        return _columns(str(path), _astropy(path, "fits"))
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        raise ValueError("is compressed: unpack it")
    if head.startswith((b"PK", b"\xd0\xcf\x11\xe0")):
        raise ValueError("is a spreadsheet or an archive, not its text")
    text = _decoded(path.read_bytes())
    if not text.strip():
        raise ValueError("is empty")
    if text.startswith("# %ECSV"):
        return _columns(str(path), _astropy("".join(_lines(text)), "ascii.ecsv"))
    return _text(str(path), text)


# --- FITS, ECSV, tables in memory -----------------------------------------------------


def _astropy(source: Path | str, kind: str) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that astropy does not know
        return Table.read(source, format=kind)


def _columns(path: str, table: Table) -> Columns:
    pairs = ((name, _array(table[name])) for name in table.colnames)
    told = {name.strip(): table[name].info.unit for name in table.colnames}
    return Columns(path, _named(pairs), len(table), units=_known(told))


def _array(column: object) -> np.ma.MaskedArray | None:
    """A column as a plain array, None where it is of no use here."""
    if not isinstance(column, np.ndarray) or column.ndim != 1:  # times, positions
        return None
    mask = np.broadcast_to(getattr(column, "mask", False), column.shape)
    data = np.asarray(getattr(column, "unmasked", column))  # quantities may be masked
    if data.dtype.kind in "OS":
        if any(isinstance(cell, (list, tuple, dict, np.ndarray)) for cell in data):
            return None
        data = np.array([_word(cell) for cell in data], str)
    if data.dtype.kind == "U":
        return _blanked(data, mask)
    if data.dtype.kind not in "biuf":
        return None
    return np.ma.array(data.astype(data.dtype.newbyteorder("=")), mask=mask)


def _word(cell: object) -> str:
    return _decoded(cell) if isinstance(cell, bytes) else str(cell)


def _blanked(text: np.ndarray, mask: np.ndarray) -> np.ma.MaskedArray:
    """Text stripped, and masked where it says nothing."""
    text = np.char.strip(text)
    blank = mask | np.isin(np.char.lower(text), BLANK)
    return np.ma.array(np.where(blank, "", text), mask=blank)


def _named(pairs: Iterable[tuple[str, np.ma.MaskedArray | None]]) -> dict:
    """Columns by name, without those that have none or are of no use."""
    cells: dict[str, np.ma.MaskedArray] = {}
    for name, column in pairs:
        name = name.strip()
        if name in cells:
            raise ValueError(f"a column stands twice: {name}")
        if name and column is not None:
            cells[name] = column
    return cells


def _known(told: dict[str, Any]) -> dict[str, Any]:
    """Units that astropy knows; of others nothing can be said."""
    found = {}
    for name, unit in told.items():
        if unit is not None:
            unit = units.Unit(unit, parse_strict="silent")
            if not isinstance(unit, units.UnrecognizedUnit):
                found[name] = unit
    return found


# --- Parquet --------------------------------------------------------------------------


def _arrow(path: str, table: pa.Table) -> Columns:
    pairs = (
        (name, _unpacked(column))
        for name, column in zip(table.column_names, table.columns, strict=True)
    )
    told = {f.name.strip(): (f.metadata or {}).get(b"unit") for f in table.schema}
    told = {name: raw.decode() for name, raw in told.items() if raw is not None}
    return Columns(path, _named(pairs), table.num_rows, units=_known(told))


def _unpacked(column: pa.ChunkedArray) -> np.ma.MaskedArray | None:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind, blank = column.type, column.is_null().to_numpy()
    if pa.types.is_boolean(kind):
        return np.ma.array(column.fill_null(False).to_numpy(), mask=blank)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.ma.array(column.fill_null(0).to_numpy(), mask=blank)
    if pa.types.is_nested(kind):
        return None
    return _blanked(np.array([_word(cell) for cell in column.to_pylist()], str), blank)


# --- text -----------------------------------------------------------------------------


def _decoded(raw: bytes) -> str:
    """Text of bytes: Excel writes UTF-16 and Windows' Latin-1, too."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16")
    elif raw[1:2] == b"\0":  # without the mark
        text = raw.decode("utf-16-le")
    elif raw[:1] == b"\0":
        text = raw.decode("utf-16-be")
    else:
        for encoding in ("utf-8", "cp1252", "latin-1"):
            try:
                text = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                pass
    if "\0" in text:
        raise ValueError("is no text")
    return text.lstrip("\ufeff")


def _lines(text: str) -> list[str]:
    return list(io.StringIO(text, newline=None))  # of any system's ends of lines


def _text(path: str, text: str) -> Columns:
    """All as text: what is a number is known by those who ask for numbers."""
    lines = [line for line in _lines(text) if line.strip()]
    sep = re.fullmatch(r"sep=(.)\s*", lines[0])  # as Excel has it
    lines = lines[1:] if sep else lines
    above = list(itertools.takewhile(_is_comment, lines))
    lines = [line for line in lines if not _is_comment(line)]
    first = lines[0] if lines else above[-1]
    separator = sep[1] if sep else _separator(first)
    rows = [row for row in _split(lines, separator) if any(row)]
    names = _commented_names(above, rows, separator)
    if not names:
        if not rows:
            raise ValueError("is nothing but comments")
        names, *rows = rows
    if separator != ",":
        rows = _below_dashes(rows)
    while names and not names[-1]:
        names = names[:-1]
    width = len(names)
    rows = [
        row if len(row) == width else _fitted(row, width, number)
        for number, row in enumerate(rows, 1)
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    pairs = (
        (name, _blanked(np.array(cells, str), False))
        for name, cells in zip(names, columns, strict=True)
    )
    return Columns(path, _named(pairs), len(rows), "," if separator == ";" else ".")


def _is_comment(line: str) -> bool:
    return line.startswith("#") and not line.startswith("#N/A")  # Excel's blank


def _separator(line: str) -> str:
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", line).count)


def _split(lines: Iterable[str], separator: str) -> list[list[str]]:
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    return [[cell.strip() for cell in row] for row in rows]


def _commented_names(
    above: list[str], rows: list[list[str]], separator: str
) -> list[str]:
    """The columns' names where they stand in the comment above the rows; else none."""
    try:
        (names,) = _split([above[-1].lstrip("#")], separator)
    except (csv.Error, IndexError):  # prose, or no comment
        return []
    if len(names) < 2 or any(map(_NUMBER.fullmatch, names)):
        return []
    if not rows:
        return names
    if len(names) != len(rows[0]):
        return []
    if any(map(_NUMBER.fullmatch, rows[0])):
        return names
    # VizieR's comments have tabs as well, and the names below them
    return names if separator == "," and all(map(_NAME.fullmatch, names)) else []


def _below_dashes(rows: list[list[str]]) -> list[list[str]]:
    """Rows of VizieR's text: what stands above a line of dashes are units."""
    for k, row in enumerate(rows[:2]):
        if all(re.fullmatch("-+", cell) for cell in row) and "---" in "".join(row):
            return rows[k + 1 :]
    return rows


def _fitted(row: list[str], width: int, number: int) -> list[str]:
    """A row without the blank cells beyond the heading's."""
    if len(row) < width or any(row[width:]):
        raise ValueError(f"row {number} has {len(row)} cells, the heading has {width}")
    return row[:width]
