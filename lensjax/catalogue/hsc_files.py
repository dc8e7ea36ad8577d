"""Which files of an HSC archive belong to one object, by their names.

The cutout service names a file arch-*/2-cutout-HSC-I-9813-pdr2_wide.fits, the PSF
picker 2-psf-calexp-pdr2_wide-HSC-I-9813-4,5-150.00000-2.20000.fits: the first number is
the line of the list that was uploaded, the heading being line 1, then filter and tract
(the PSF's patch and position, too).  The archive's scripts downloadCutout.py and
downloadPsf.py name theirs 2_coadd_150.00000_+2.20000_9813_HSC-I.fits and
2_psf_coadd_150.00000_+2.20000_9813_4,5_HSC-I.fits.  All this was taken from those
scripts and from files that papers' code names; the services themselves were not tried.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lensjax.catalogue import user_tables

BANDS = ("G", "R", "I", "Z")
SUFFIX = re.compile(r"\.fits?(\.gz|\.fz)?$", re.I)
FIRST_LINE = 2  # the number of the first file: the heading is line 1

_REMEDY = (
    "or give a table with columns id, g, r, i, z, psf_g, psf_r, psf_i, psf_z: paths "
    "relative to it"
)
_FILTER = r"(?P<filter>HSC-[A-Z]\d?|[NI]B\d+)"
_ARCHIVE = re.compile(
    rf"((?P<number>\d+)-)?((cutout|coadd\+bg)-{_FILTER}-(?P<tract>\d+)-.+"
    rf"|psf-calexp-\w+-{_FILTER.replace('filter', 'filter_psf')}-(?P<tract_psf>\d+)-.+)"
)
_SCRIPT = re.compile(
    r"\d+_(?P<psf>psf_)?coadd(\+bg)?_(?P<place>\d+\.\d+_[-+]\d+\.\d+)_(?P<tract>\d+)"
    rf"(_\d+,\d+)?_{_FILTER}"
)
_WORD = r"(?<![^\W_])(?:{})(?![^\W_])"  # no letter or digit on either side
_BAND = re.compile(_WORD.format(r"(?:HSC[-_])?([GRIZY][12]?)"), re.I)
_PSF = re.compile(_WORD.format("psfs?"), re.I)
_NOISE = re.compile(_WORD.format(r"psfs?|cutouts?|images?|(?:HSC[-_])?[GRIZY]2?"), re.I)
_UNPACKED = re.compile(r"arch-\d+-\d+")  # what the service's archives unpack into


class Files(NamedTuple):
    """Where one object's images are."""

    name: str  # for messages: folder/number, the name without its band, the table's id
    bands: dict[str, Path]  # G, R, I, Z -> cutout
    psf: dict[str, Path]  # G, R, I, Z -> PSF; may lack some


class _Item(NamedTuple):
    folder: str  # below the source
    path: str
    is_psf: bool
    filter: str  # HSC-R2
    number: int | None  # line of a list
    key: str  # what files of one object in one folder share
    tract: str


def find(source: str | Path) -> list[Files]:
    """Objects in a folder, searched recursively, or in a table of paths, in order.

    Files of one object share a folder and, by the archive's naming, a number, by that
    of its scripts a position, else the name without its band (a_HSC-G.fits and
    psf_a_HSC-G.fits).  A list with one line a band gives each file a number of its
    own: these are taken in turn, if all of a folder's files keep to it.  Folders whose
    paths differ only by a band, arch-*, or the words cutout, image or psf are one, as
    long as no file then stands twice.  Of two tracts that hold an object the one with
    more bands counts, then the lower one; of HSC-R and HSC-R2, HSC-I and HSC-I2 the
    second, newer one.  A column of a table that is blank is a missing file.

    Raises ValueError, with the remedy, where there is nothing, or where it is not
    clear what belongs together.
    """
    source = Path(source)
    if source.is_file():
        return _in_table(source)
    if not source.is_dir():
        raise ValueError(f"{source} is no folder or table: name the archive's folder")
    items = [item for items in _walk(source) for item in _lines(source, items)]
    found = [_files(group) for group in _groups(source, items)]
    if not found:
        raise ValueError(
            f"{source} holds no cutouts named as the archive does "
            f"(2-cutout-HSC-I-9813-pdr2_wide.fits) or a_HSC-I.fits: rename them, "
            f"{_REMEDY}"
        )
    psfs = sum(item.is_psf for item in items)
    if psfs and not any(files.psf for files in found):
        raise ValueError(
            f"{source}: none of its {psfs} PSFs goes with a cutout: keep cutouts and "
            f"PSFs of one list in one folder, {_REMEDY}"
        )
    return found


# --- folders --------------------------------------------------------------------------


def _walk(source: Path) -> Iterator[list[_Item]]:
    """FITS files of each folder; links are followed, no folder twice."""
    folders, seen = [str(source)], set()
    while folders:
        folder = folders.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        items, below = [], []
        name = os.path.relpath(folder, source)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):  # what systems leave behind
                    continue
                if SUFFIX.search(entry.name):
                    items.append(_item(name, entry))
                elif _is_folder(entry):
                    below.append(entry.path)
        folders += sorted(below, reverse=True)
        yield [item for item in items if item]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _item(folder: str, entry: os.DirEntry) -> _Item | None:
    stem = SUFFIX.sub("", entry.name)
    if match := _ARCHIVE.fullmatch(stem):
        number = int(match["number"]) if match["number"] else None
        band, tract = match["filter"], match["tract"]
        is_psf = band is None
        if is_psf:
            band, tract = match["filter_psf"], match["tract_psf"]
        return _Item(folder, entry.path, is_psf, band, number, "", tract)
    if match := _SCRIPT.fullmatch(stem):
        is_psf, place = bool(match["psf"]), match["place"]
        band, tract = match["filter"], match["tract"]
        return _Item(folder, entry.path, is_psf, band, None, place, tract)
    if not (words := list(_BAND.finditer(stem))):
        return None
    last = words[-1]
    is_psf = bool(_PSF.search(stem) or _PSF.search(folder))
    rest = _NOISE.sub("", stem[: last.start()] + stem[last.end() :])
    key = re.sub(r"[-_. ]+", "_", rest).strip("_")
    band = f"HSC-{last[1].upper()}"
    return _Item(folder, entry.path, is_psf, band, None, key, "")


def _lines(source: Path, items: list[_Item]) -> list[_Item]:
    """Give numbered files of one folder their object's key: its first line's number."""
    out = [item for item in items if item.number is None]
    for is_psf in (False, True):
        some = [i for i in items if i.number is not None and i.is_psf == is_psf]
        step = _lines_an_object(source, some)
        for item in some:
            line = item.number - (item.number - FIRST_LINE) % step
            # told apart from numbers that are objects: a mixture must not pair up
            out.append(item._replace(key=f"{line}" if step == 1 else f"{line}+"))
    return out


def _lines_an_object(source: Path, items: list[_Item]) -> int:
    """1 where a number is an object, else how many lines of the list one object has."""
    filters = {item.filter for item in items}
    pairs = {(item.number, item.filter) for item in items}  # tracts may repeat one
    if len(pairs) > len({number for number, _ in pairs}):
        return 1
    for step in range(len(filters), 32):
        places = {(i.filter, (i.number - FIRST_LINE) % step) for i in items}
        if len(places) == len(filters) == len({place for _, place in places}):
            return step
    raise ValueError(
        f"{source / items[0].folder}: each number has one band, in no regular order: "
        f"which are one object is not clear; order with `upload_list`, {_REMEDY}"
    )


def _groups(source: Path, items: list[_Item]) -> list[list[_Item]]:
    """Files of one object together; ValueError where two would be the same."""
    common = {folder: _common(folder) for folder in {item.folder for item in items}}
    groups = defaultdict(list)
    for item in items:
        groups[common[item.folder], item.key].append(item)
    mixed = {place for (place, _), group in groups.items() if _twice(group)}
    for place, key in [where for where in groups if where[0] in mixed]:
        for item in groups.pop((place, key)):
            groups[place, item.folder, key].append(item)
    for (place, *_), group in groups.items():
        if two := _twice(group):
            raise ValueError(
                f"{two[0].path} and {two[1].path} look like one image of one object: "
                f"remove one, {_REMEDY}"
            )
        if place in mixed and all(item.is_psf for item in group):
            raise ValueError(
                f"{source / group[0].folder}: it is not clear which cutouts these PSFs "
                "belong to: keep cutouts and PSFs of each list together in a folder of "
                f"their own, {_REMEDY}"
            )
    return sorted((g for g in groups.values() if any(map(_is_used, g))), key=_order)


def _common(folder: str) -> str:
    parts = (_NOISE.sub("", _UNPACKED.sub("", part)) for part in folder.split(os.sep))
    return "/".join(part for part in (p.strip("-_. ") for p in parts) if part)


def _is_used(item: _Item) -> bool:
    return not item.is_psf and item.filter[4:5] in BANDS


def _twice(group: list[_Item]) -> list[_Item]:
    seen: dict[tuple, _Item] = {}
    for item in group:
        same = (item.is_psf, item.filter, item.tract)
        if same in seen:
            return [seen[same], item]
        seen[same] = item
    return []


def _order(group: list[_Item]) -> tuple:
    item = min(group, key=lambda item: (item.is_psf, item.path))
    return item.folder, item.number or 0, item.key


def _files(group: list[_Item]) -> Files:
    cutouts = list(filter(_is_used, group))
    tracts = Counter(item.tract for item in cutouts)
    tract = min(tracts or [""], key=lambda t: (-tracts[t], t))
    bands = {  # sorted: R2 after R, and instead of it
        item.filter[4:5]: item
        for item in sorted(cutouts, key=lambda item: item.filter)
        if item.tract == tract
    }
    psf = {}
    for item in group:
        cutout = bands.get(item.filter[4:5])
        if item.is_psf and cutout:
            other = (item.tract != tract, item.filter != cutout.filter)
            psf.setdefault(item.filter[4:5], []).append((other, item.path))
    first = min(group, key=lambda item: (item.is_psf, item.path))
    stem = first.key.removesuffix("+") or Path(first.path).parent.name
    return Files(
        stem if first.folder == "." else f"{first.folder}/{stem}",
        {b: Path(bands[b].path) for b in BANDS if b in bands},
        {b: Path(min(psf[b])[1]) for b in BANDS if b in psf},
    )


# --- tables ---------------------------------------------------------------------------


def _in_table(path: Path) -> list[Files]:
    table = user_tables.read(path)
    ids = user_tables.texts(table, "id")
    if (again := user_tables.duplicates(ids)).any():
        raise ValueError(f"{path} lists the id {ids[again][0]} more than once")
    if (ids == "").any():
        raise ValueError(f"{path}: no id in row {int(np.argmax(ids == '')) + 1}")
    cells = {b: user_tables.texts(table, b.lower()) for b in BANDS}
    psf = {b: user_tables.texts(table, f"psf_{b.lower()}") for b in BANDS}
    return [
        Files(
            str(ids[row]),
            {b: path.parent / str(cells[b][row]) for b in BANDS if cells[b][row]},
            {b: path.parent / str(psf[b][row]) for b in BANDS if psf[b][row]},
        )
        for row in range(table.rows)
    ]
