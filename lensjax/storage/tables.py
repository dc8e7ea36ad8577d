"""Tables in the format that a file's ending names: Parquet, CSV or FITS."""

import io
import os
from pathlib import Path

import numpy as np
from astropy.table import Table

from lensjax.storage import atomic, parquet

ENDINGS = (".parquet", ".pq", ".csv", ".fits")


def check_writable(out: str | os.PathLike, overwrite: bool = False) -> None:
    """Raise ValueError, with the remedy, if a table could not be written to `out`."""
    out = Path(out)
    if out.suffix not in ENDINGS:
        raise ValueError(f"{out}: must end in .parquet, .csv or .fits")
    atomic.check_writable(out, overwrite)


def write(table: Table, out: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a table whole, or not at all.

    Parquet keeps units, descriptions and meta; FITS keeps units; of CSV the columns'
    names carry them.
    """
    out = Path(out)
    check_writable(out, overwrite)
    if out.suffix in (".parquet", ".pq"):
        parquet.write(table, out, overwrite)
        return
    plain = Table(table, copy=True)
    for name in plain.colnames:
        if plain[name].dtype.kind == "O":
            plain[name] = np.array([str(v) for v in plain[name]], dtype=str)
    if out.suffix == ".csv":
        text = io.StringIO()
        plain.write(text, format="ascii.csv")
        atomic.write(out, text.getvalue())
        return
    plain.meta = {}
    for name in plain.colnames:  # a FITS table holds ASCII alone
        if plain[name].dtype.kind == "U":
            words = [str(v).encode("ascii", "replace") for v in plain[name]]
            plain[name] = np.array(words, dtype="S")
    atomic.write(out, lambda file: plain.write(file, format="fits"))
