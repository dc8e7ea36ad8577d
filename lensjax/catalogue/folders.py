"""Files of cutouts: which there are, and what their objects are called."""

import glob
import os

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")


def find(where: str | os.PathLike) -> list[str]:
    """List the cutouts of a folder, of a glob (`**` goes into folders), or one file.

    Of a folder: files ending in .fits, .fit or these with .gz, sorted, hidden ones left
    out; names alone are looked at, so a million files are one pass.

    Raises
    ------
    ValueError
        Nothing is there.
    """
    where = os.path.expanduser(os.fspath(where))
    if os.path.isdir(where):
        try:
            with os.scandir(where) as entries:
                names = sorted(e.name for e in entries if _is_cutout(e.name))
        except OSError as error:
            raise ValueError(f"{where}: {error.strerror}") from error
        if not names:
            raise ValueError(
                f"{where}: no file ends in {', '.join(SUFFIXES)}; give the folder that "
                "holds them, or a glob in quotes such as 'survey/**/*.fits'"
            )
        return [os.path.join(where, name) for name in names]
    # a name that exists is that file, even with a bracket in it; lexists: a broken link
    # is an object with a fault, not a bad argument
    if os.path.lexists(where):
        return [where]
    paths = sorted(p for p in glob.glob(where, recursive=True) if not os.path.isdir(p))
    if not paths:
        raise ValueError(f"{where}: nothing there; give a folder, glob or file")
    return paths


def object_id(path: str | os.PathLike) -> str:
    """An object's name: that of its file without folder and ending."""
    name = os.path.basename(os.fspath(path))
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return text(name)


def text(name: str) -> str:
    """Make a file name storable: names need not be UTF-8, Parquet's strings must."""
    return os.fsencode(name).decode("utf-8", "replace")


def _is_cutout(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
