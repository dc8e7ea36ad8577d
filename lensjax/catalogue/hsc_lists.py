"""Lists that order cutouts and PSFs of given positions from the HSC archive.

Their columns, and that sw and sh are half sizes, are those of the archive's scripts
downloadCutout.py and downloadPsf.py, which take these lists, too.  The services and
their limit of 1000 lines were not tried; the scripts send 990 at once.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from lensjax.catalogue import user_tables

MAX_LINES = 1000  # with the heading


def upload_list(
    folder: str | Path,
    table: str | Path | Table,
    rerun: str = "pdr3_wide",
    half_size: float = 20.0,
    filters: Sequence[str] = ("HSC-G", "HSC-R", "HSC-I", "HSC-Z"),
) -> list[Path]:
    """Write the lists that order cutouts and PSFs of the positions in a table.

    Columns id, ra, dec [deg].  `half_size` [arcsec] is half a cutout's side: the
    paper's are 40 arcsec wide, so that their corners are free of lens light.  Each
    object has a line a band, and its lines stand in one file: 0001-cutouts.txt for the
    cutout service, 0001-psfs.txt for the PSF picker.  Unpack what comes back for both
    into one folder, 0001, and `find` knows what belongs together.  Their owner logs in;
    nothing here does.

    Returns the files, none for an empty table.  Raises ValueError for an id that is
    blank or stands twice, for a position that is blank, a placeholder such as -99 or
    cannot be in degrees, and for files that exist.
    """
    folder, table = Path(folder), user_tables.read(table)
    ids = user_tables.texts(table, "id")
    blank = np.isnan(user_tables.numbers(table, "ra"))
    blank |= np.isnan(user_tables.numbers(table, "dec"))
    ra, dec, odd = user_tables.positions(table)
    for bad, text in (
        (ids == "", "the id is blank"),
        (blank, "ra or dec is blank"),
        (np.isnan(ra), "ra and dec are no place on the sky"),
        (user_tables.duplicates(ids), "the id stood before"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{table.path}: {text} in row {row + 1} (id {str(ids[row])!r})"
            )
    if odd:
        warnings.warn(f"{table.path}: {odd}", stacklevel=2)
    size = f"{half_size:g}asec"
    kinds = {
        "cutouts": ("sw sh image mask variance", f"{size} {size} true true true"),
        "psfs": ("centered", "true"),
    }
    each = (MAX_LINES - 1) // len(filters)
    pages = [range(k, min(k + each, len(ids))) for k in range(0, len(ids), each)]
    texts = {}
    for number, page in enumerate(pages, 1):
        for kind, (names, values) in kinds.items():
            lines = [f"#? rerun type filter ra dec {names}"] + [
                f"{rerun} coadd {band} {ra[k]:.7f} {dec[k]:.7f} {values}"
                for k in page
                for band in filters
            ]
            texts[folder / f"{number:04d}-{kind}.txt"] = "\n".join(lines) + "\n"
    if there := [path for path in texts if path.exists()]:
        raise ValueError(f"{there[0]} exists: remove it or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text)
    return list(texts)
