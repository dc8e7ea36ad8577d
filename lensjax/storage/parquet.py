"""Tables on disk: Parquet with units and provenance, whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Column, Table
from astropy.table.meta import get_yaml_from_table


def check_writable(out: str | os.PathLike, overwrite: bool = False) -> None:
    """Raise ValueError, with the remedy, if a table could not be written to `out`."""
    out = Path(out)
    if out.suffix not in (".parquet", ".pq"):
        raise ValueError(f"out={out}: must end in .parquet")
    if out.is_dir():
        raise ValueError(f"out={out}: is a folder; name a file in it")
    if os.path.lexists(out) and not overwrite:
        raise ValueError(f"out={out}: exists; pass overwrite=true or another name")
    try:
        # the only test that knows of read-only disks, quotas and root
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=".lensjax-"):
            pass
    except FileNotFoundError:
        raise ValueError(f"out={out}: no folder {out.parent}; make it first") from None
    except OSError as error:
        raise ValueError(
            f"out={out}: cannot write to {out.parent} ({error.strerror}); choose a "
            "folder you may write to"
        ) from error


def write(table: Table, out: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a table as Parquet: whole, or not at all.

    Units, descriptions and meta come back with `read`, and with
    `astropy.table.Table.read(out)` where pandas is installed, which that needs.  For
    others they are plain columns with a `unit` in each field's metadata and the meta as
    JSON: `json.loads(pyarrow.parquet.read_schema(out).metadata[b"lensjax"])`.
    """
    check_writable(out, overwrite)
    out = Path(out)
    temporary = out.parent / f".lensjax-{os.getpid()}-{out.name}"
    try:
        pq.write_table(_arrow(table), temporary)
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike) -> Table:
    """Read a table that `write` wrote, with units, descriptions and meta."""
    data = pq.read_table(path)
    table = Table(meta=json.loads(data.schema.metadata[b"lensjax"]))
    for field in data.schema:
        about = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        values = data[field.name].to_pylist()
        dtype = (
            object if pa.types.is_string(field.type) else field.type.to_pandas_dtype()
        )
        table[field.name] = Column(
            np.array(values, dtype=dtype),
            unit=about.get("unit"),
            description=about.get("description"),
        )
    return table


def _arrow(table: Table) -> pa.Table:
    """Lay the table out for pyarrow, with astropy's own header beside our JSON."""
    arrays, fields, header, lengths = [], [], Table(meta=table.meta), {}
    for name in table.colnames:
        column = table[name]
        if column.dtype.kind in "OU":
            arrays.append(pa.array(column.tolist(), pa.string()))
            width = max(1, max(map(len, column), default=1))
            lengths[f"table::len::{name}"] = str(width)
            head = Column([], dtype=f"U{width}")
        else:
            arrays.append(pa.array(np.asarray(column)))
            head = Column([], dtype=column.dtype)
        head.unit, head.description = column.unit, column.description
        header[name] = head
        about = {"unit": column.unit, "description": column.description}
        about = {key: str(value) for key, value in about.items() if value is not None}
        fields.append(pa.field(name, arrays[-1].type, metadata=about))
    metadata = lengths | {
        "table_meta_yaml": "\n".join(get_yaml_from_table(header)),
        "lensjax": json.dumps(table.meta),
    }
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
