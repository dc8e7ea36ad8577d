"""Tables on disk: Parquet with units and provenance, whole or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Column, MaskedColumn, Table
from astropy.table.meta import get_yaml_from_table

from lensjax.storage import atomic

MARK = b"lensjax"  # in a file's metadata: the table's meta as JSON


def check_writable(out: str | os.PathLike, overwrite: bool = False) -> None:
    """Raise ValueError, with the remedy, if a table could not be written to `out`."""
    out = Path(out)
    if out.suffix not in (".parquet", ".pq"):
        raise ValueError(f"{out}: must end in .parquet")
    atomic.check_writable(out, overwrite)


def write(table: Table, out: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a table as Parquet: whole, or not at all.

    Units, descriptions and meta come back with `read`, and with
    `astropy.table.Table.read(out)` where pandas is installed, which that needs.  For
    others they are plain columns with a `unit` in each field's metadata and the meta as
    JSON: `json.loads(pyarrow.parquet.read_schema(out).metadata[b"lensjax"])`.

    Masked cells, and None, become nulls; nan stays nan.  Raises ValueError, naming the
    column and the remedy, for one that is not a number, text, truth, bytes or date a
    row: arrays, times, sky positions.
    """
    check_writable(out, overwrite)
    data = _arrow(table)
    atomic.write(out, lambda file: pq.write_table(data, file))


def read(path: str | os.PathLike) -> Table:
    """Read a table that `write` wrote, with units, descriptions and meta.

    Text is a column of objects.  Nulls come back masked, above nan, 0, False or "".
    Raises ValueError for any other file, FileNotFoundError where there is none.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name the file in it")
    try:
        data = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        text = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged, or no Parquet file ({text})") from error
    if MARK not in (data.schema.metadata or {}):
        raise ValueError(
            f"{path} was not written by lensjax.storage.parquet: read it with "
            "pyarrow.parquet.read_table"
        )
    table = Table(meta=json.loads(data.schema.metadata[MARK]))
    for field in data.schema:
        about = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        table[field.name] = _column(data[field.name], about)
    return table


def _column(data: pa.ChunkedArray, about: dict[str, str]) -> Column:
    """A column as it was written; `about` is its field's metadata."""
    blank, kind = data.is_null().to_numpy(), data.type
    if pa.types.is_string(kind):
        values = np.array(data.fill_null("").to_pylist(), object)
    elif pa.types.is_binary(kind):
        values = np.array(data.fill_null(b"").to_pylist(), "S")
    elif pa.types.is_floating(kind):
        # not 0: who asks for the bare array is not to take it for data
        values = np.where(blank, np.nan, data.to_numpy()).astype(data.to_numpy().dtype)
    elif pa.types.is_boolean(kind):
        values = data.fill_null(False).to_numpy()
    elif pa.types.is_integer(kind):
        values = data.fill_null(0).to_numpy()
    else:  # dates, whose null is their own
        values = data.to_numpy()
    values = values.astype(about.get("dtype", values.dtype))
    facts = {"unit": about.get("unit"), "description": about.get("description")}
    if blank.any():
        fill = np.nan if values.dtype.kind == "f" else None  # 1e20 otherwise
        return MaskedColumn(values, mask=blank, fill_value=fill, **facts)
    return Column(values, **facts)


def _arrow(table: Table) -> pa.Table:
    """Lay the table out for pyarrow, with astropy's own header beside our JSON."""
    arrays, fields, header, lengths = [], [], Table(meta=table.meta), {}
    for name in table.colnames:
        array, dtype = _array(name, table[name])
        if pa.types.is_string(array.type):
            width = max((len(text) for text in array.to_pylist() if text), default=1)
            lengths[f"table::len::{name}"] = str(width)
            dtype = np.dtype(f"U{width}")
        head = Column([], dtype=dtype)
        info = table[name].info
        head.unit, head.description = info.unit, info.description
        header[name] = head
        about = {"unit": info.unit, "description": info.description}
        about = {key: str(value) for key, value in about.items() if value is not None}
        if dtype.kind in "SMm":
            about["dtype"] = dtype.str
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=about))
    try:
        metadata = lengths | {
            "table_meta_yaml": "\n".join(get_yaml_from_table(header)),
            MARK: json.dumps(table.meta, default=_bare),
        }
    except TypeError as error:
        raise ValueError(
            f"the table's meta cannot be written ({error}): keep numbers, text, lists "
            "and dicts in it"
        ) from error
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def _array(name: str, column: Column) -> tuple[pa.Array, np.dtype]:
    """A column for pyarrow, and its dtype; ValueError for one that cannot be stored."""
    if not isinstance(column, np.ndarray):  # times, positions: several numbers a row
        kind = type(column).__name__
        raise ValueError(f"column {name} holds {kind}: write its numbers or its text")
    if column.ndim != 1:
        raise ValueError(
            f"column {name} holds arrays of shape {column.shape[1:]}: write a column "
            "for each number, or a FITS file"
        )
    mask = np.broadcast_to(getattr(column, "mask", False), column.shape)
    values = np.asarray(getattr(column, "unmasked", column))
    values = values.astype(values.dtype.newbyteorder("="))
    try:
        if values.dtype.kind in "OU":
            cells = [
                None if m else v for v, m in zip(values.tolist(), mask, strict=True)
            ]
            array = _cells(cells)
        else:
            array = pa.array(values, mask=mask)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"column {name} cannot be written: {text}") from error
    dtype = values.dtype
    if dtype.kind == "O":
        dtype = np.dtype(array.type.to_pandas_dtype())
    return array, dtype


def _cells(cells: list) -> pa.Array:
    """Text, or what else the objects of a column all are; None is null."""
    if any(isinstance(cell, str) for cell in cells):
        # beside text nan is what others write for None
        cells = [None if isinstance(c, float) and c != c else c for c in cells]
    if all(cell is None or isinstance(cell, str) for cell in cells):
        return pa.array(cells, pa.string())
    try:
        array = pa.array(cells)
    except OverflowError:  # ids above 2^63
        array = pa.array(cells, pa.uint64())
    if pa.types.is_nested(array.type) or pa.types.is_decimal(array.type):
        raise TypeError(f"it holds {array.type}")
    return array


def _bare(value: object) -> object:
    """What JSON knows of a value of numpy's."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")
