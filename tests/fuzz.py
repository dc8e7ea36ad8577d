"""Good files broken at random: no traceback, no hang, no other answer without a flag.

    python -m tests.fuzz [--inputs 10000] [--seed 0]

Cutouts of mocks are broken in their pixels, planes, headers and bytes, tables of users
in their cells and bytes.  Each is to be read or refused by name within two seconds;
where the image has no flag, theta_E by the network that comes with lensjax is to be the
good file's within the network's own error.  Prints a table; 1 where one is not so.
"""

import argparse
import io
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Table

from lensjax import parameters
from lensjax.catalogue import _table_files, cutouts, quality, redshifts, sdss
from lensjax.survey import HSC

SLOW = 2.0  # [s] to read one file
ERROR = 0.271  # [arcsec] RMS of uniform-5's theta_E on its test set
ODD = [np.nan, np.inf, -np.inf, 0, -1, -99, -999, 1e30, -1e30, 65535, 1e-30]
WORDS = [
    "",
    "--",
    "nan",
    "None",
    "-9999",
    "1e400",
    "0x10",
    "é",
    "1,5",
    "true",
    "'",
    '"',
]


class Result(NamedTuple):
    """What came of one input."""

    kind: str  # of the damage
    outcome: str  # refused, flagged, read or failed
    words: str  # of the refusal or failure
    image: np.ndarray | None = None  # where it was read without a flag
    good: int = 0  # number of the cutout that was broken


# Cutouts


def cutout(image: np.ndarray, planes: bool) -> fits.HDUList:
    """A good file: bands with a position, and noise, masks and PSFs if asked for."""
    hdus, n = [fits.PrimaryHDU()], image.shape[0]
    y, x = np.mgrid[:21, :21] - 10
    kernel = np.exp(-(x**2 + y**2) / 8.0)
    for k, band in enumerate(HSC.bands):
        cards = {"PIXSCALE": 0.168, "MAGZERO": 27.0, "EXTNAME": band.upper()}
        cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1}
        cards |= {"CRVAL2": 2.2, "CRPIX1": n / 2, "CRPIX2": n / 2}
        cards |= {"CD1_1": -0.168 / 3600, "CD2_2": 0.168 / 3600}
        hdus.append(fits.ImageHDU(image[..., k].copy(), fits.Header(cards.items())))
        noise = np.full((n, n), HSC.sky_sigma[k], np.float32)
        for name, plane in (
            ("NOISE", noise),
            ("MASK", np.zeros((n, n), np.int32)),
            ("PSF", (kernel / kernel.sum()).astype(np.float32)),
        ):
            if planes:
                hdus.append(fits.ImageHDU(plane, name=f"{name}_{band.upper()}"))
    return fits.HDUList(hdus)


def pixels(hdus, rng):
    """Some pixels of a plane get one odd value."""
    plane = _any(hdus, rng).data
    number = int(rng.choice([1, 1, 3, 30, 300]))
    y, x = rng.integers(0, plane.shape[0], (2, number))
    plane[y, x] = _fits_in(plane, rng.choice(ODD))


def rectangle(hdus, rng):
    """A rectangle of a plane gets one odd value."""
    plane = _any(hdus, rng).data
    (y0, y1), (x0, x1) = np.sort(rng.integers(0, plane.shape[0] + 1, (2, 2)))
    plane[y0:y1, x0:x1] = _fits_in(plane, rng.choice(ODD))


def scale(hdus, rng):
    """A plane in another unit, or turned into its negative."""
    hdu = _any(hdus, rng)
    factor = rng.choice(
        [-1, 0, 10.0 ** rng.uniform(-30, 30), 10.0 ** rng.uniform(-2, 2)]
    )
    with np.errstate(all="ignore"):
        hdu.data = (hdu.data * factor).astype(hdu.data.dtype)
    return f"{hdu.name} times {factor:.3g}"


def offset(hdus, rng):
    """A plane on another sky."""
    hdu = _any(hdus, rng)
    step = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-2, 6)
    hdu.data = (hdu.data + step).astype(hdu.data.dtype)
    return f"{hdu.name} plus {step:.3g}"


def roll(hdus, rng):
    """A plane rolled."""
    hdu = _any(hdus, rng)
    step = rng.integers(-20, 21, 2) if rng.random() < 0.5 else rng.integers(-3, 4, 2)
    hdu.data = np.roll(hdu.data, step, (0, 1))
    return f"{hdu.name} by {step}"


def turn(hdus, rng):
    """A plane turned or mirrored."""
    hdu = _any(hdus, rng)
    hdu.data = np.ascontiguousarray(np.rot90(hdu.data, rng.integers(1, 4))[::-1])


def shape(hdus, rng):
    """A plane cut, stretched to a cube, or to one row."""
    hdu = _any(hdus, rng)
    n = rng.integers(0, hdu.data.shape[0] + 1)
    cut = rng.integers(5)
    hdu.data = [
        hdu.data[:n],
        hdu.data[:, :n],
        hdu.data[:n, :n],
        hdu.data[None],
        hdu.data[:1],
    ][cut].copy()


def swap(hdus, rng):
    """The pixels of two planes change places."""
    one, other = _any(hdus, rng), _any(hdus, rng)
    one.data, other.data = other.data.copy(), one.data.copy()
    return f"{one.name} for {other.name}"


def drop(hdus, rng):
    """A plane is missing."""
    del hdus[rng.integers(1, len(hdus))]


def double(hdus, rng):
    """A plane stands twice."""
    hdus.append(_any(hdus, rng).copy())


def card(hdus, rng):
    """A card is missing, or has a value of any type."""
    header = hdus[rng.integers(len(hdus))].header
    own = ("PIXSCALE", "MAGZERO", "EXTNAME", "CD1_1", "CRPIX1", "CTYPE1", "CRVAL2")
    key = rng.choice(own)
    values = [
        "",
        "G",
        "nonsense",
        0,
        -1,
        1e300,
        -1e-300,
        True,
        27.0,
        0.2,
        "0.168",
        22.5,
    ]
    value = values[rng.integers(len(values))]
    if rng.random() < 0.3:
        header.remove(key, ignore_missing=True)
    else:
        header[key] = value


def flipped(data, rng):
    """Some bytes anywhere are others."""
    data = bytearray(data)
    for at in rng.integers(0, len(data), rng.choice([1, 3, 30])):
        data[at] = rng.integers(256)
    return bytes(data)


def headers(data, rng):
    """Some bytes of the first headers are others."""
    data = bytearray(data)
    for at in rng.integers(0, 6000, rng.choice([1, 2, 5])):
        data[at] = rng.choice([32, 48, 57, 39, 47, rng.integers(256)])
    return bytes(data)


def cut(data, rng):
    """The end is missing, or something in the middle."""
    a, b = np.sort(rng.integers(0, len(data), 2))
    return data[:a] if rng.random() < 0.5 else data[:a] + data[b:]


def more(data, rng):
    """A piece stands twice, or something follows."""
    a, b = np.sort(rng.integers(0, len(data), 2))
    return data[:b] + data[a:] if rng.random() < 0.5 else data + rng.bytes(b - a)


IN_PLANES = (
    pixels,
    rectangle,
    scale,
    offset,
    roll,
    turn,
    shape,
    swap,
    drop,
    double,
    card,
)
IN_BYTES = (flipped, headers, cut, more)


def _any(hdus, rng):
    return hdus[rng.integers(1, len(hdus))]


def _fits_in(plane, value):
    if plane.dtype.kind != "f":
        value = np.nan_to_num(value, nan=-1, posinf=2**31 - 1, neginf=-(2**31))
        return np.int32(np.clip(value, -(2**31), 2**31 - 1))
    return np.float32(value)


def broken_cutout(image, folder: Path, rng, number: int) -> Result:
    """One cutout broken, written, read and judged."""
    how = (*IN_PLANES, *IN_BYTES)[rng.integers(len(IN_PLANES) + len(IN_BYTES))]
    hdus = cutout(image, planes=bool(rng.random() < 0.4))
    what = how(hdus, rng) if how in IN_PLANES else None
    raw = io.BytesIO()
    hdus.writeto(raw, output_verify="silentfix", checksum=bool(rng.random() < 0.3))
    data = how(raw.getvalue(), rng) if how in IN_BYTES else raw.getvalue()
    path = folder / "broken.fits"
    path.write_bytes(data)

    def read():
        prepared = quality.prepare(cutouts.read(path, HSC.bands), HSC)
        return prepared.flags, prepared.pixels

    one = judged(how.__name__, read, (cutouts.CutoutError,), number)
    return one._replace(words=what) if what and not one.words else one


# Tables

TABLE = {
    "specObjID": [4771271612938592256, 4771271612938592257, 4771271612938592258],
    "ra": [150.1, 150.2, 359.9],
    "dec": [2.1, -2.2, 0.0],
    "z": [0.3, 0.4, 0.5],
    "zErr": [1e-4, 1e-4, 1e-4],
    "zWarning": [0, 0, 4],
    "velDisp": [210.5, 300.0, 250.0],
    "velDispErr": [10.0, 12.0, 9.0],
}
FORMS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable"}


def cells(rows: dict[str, list], rng) -> None:
    """A cell is a word or an odd number."""
    column = rows[list(rows)[rng.integers(len(rows))]]
    column[rng.integers(len(column))] = rng.choice([*WORDS, *(str(x) for x in ODD)])


def heading(rows: dict[str, list], rng) -> None:
    """A heading is another, or stands twice but for its case."""
    name = list(rows)[rng.integers(len(rows))]
    column = rows.pop(name)
    rows[rng.choice([name.lower(), name[:-1] or "x", name + " ", *rows])] = column


def broken_table(folder: Path, rng) -> Result:
    """One table of spectra, broken and read by the readers of spectra and redshifts."""
    rows = {name: list(column) for name, column in TABLE.items()}
    how = (cells, heading, flipped, cut, more)[rng.integers(5)]
    form = list(FORMS)[rng.integers(len(FORMS))]
    if how in (cells, heading):
        form = "csv" if rng.random() < 0.7 else form
        how(rows, rng)
        rows = {
            k: v if len({type(x) for x in v}) == 1 else list(map(str, v))
            for k, v in rows.items()
        }
    path = folder / f"broken.{form}"
    try:
        warnings.simplefilter("ignore")  # names that a VOTable cannot have
        Table(rows).write(path, format=FORMS[form], overwrite=True)
    except UnicodeEncodeError:  # a word that no FITS table can hold
        return Result(how.__name__, "refused", "")
    if how not in (cells, heading):
        path.write_bytes(how(path.read_bytes(), rng))
    reader = (sdss.read, redshifts.read_redshifts, _table_files.read)[rng.integers(3)]
    kind = f"{how.__name__} of a table"

    def read():
        reader(path)
        return {}, None

    return judged(kind, read, (ValueError,), 0)


# Both


def judged(kind: str, read: Callable, expected: tuple, number: int) -> Result:
    """What came of reading: flags and pixels, an expected error, or a failure."""
    began = time.perf_counter()
    try:
        flags, image = read()
    except expected as error:
        words = str(error)
        outcome = "refused" if "\n" not in words and "broken" in words else "failed"
        return Result(kind, outcome, words, None, number)
    except Exception:
        return Result(kind, "failed", traceback.format_exc(limit=-3), None, number)
    if (seconds := time.perf_counter() - began) > SLOW:
        return Result(kind, "failed", f"took {seconds:.1f} s", None, number)
    if flags:
        return Result(kind, "flagged", ", ".join(flags), None, number)
    return Result(kind, "read", "", image, number)


def run(images: np.ndarray, inputs: int, seed: int, theta_e: Callable) -> list[Result]:
    """Break as many; those read without a flag are held against the good ones."""
    rng = np.random.default_rng(seed)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(inputs):
            if rng.random() < 0.2:
                results.append(broken_table(Path(folder), rng))
                continue
            number = int(rng.integers(len(images)))
            results.append(broken_cutout(images[number], Path(folder), rng, number))
    good = theta_e(images)
    read = [k for k, one in enumerate(results) if one.image is not None]
    if read:
        found = theta_e(np.stack([results[k].image for k in read]))
        for k, value in zip(read, found, strict=True):
            if not abs(value - good[results[k].good]) < ERROR:
                words = f"{results[k].words}: theta_E {value:.3f}"
                words += f" for {good[results[k].good]:.3f}"
                results[k] = results[k]._replace(outcome="failed", words=words)
    return results


def table(results: list[Result]) -> str:
    """Counts by kind of damage, in Markdown."""
    outcomes = ("refused", "flagged", "read", "failed")
    count = Counter((one.kind, one.outcome) for one in results)
    lines = ["| damage | " + " | ".join(outcomes) + " |", "|---|---|---|---|---|"]
    for kind in sorted({one.kind for one in results}):
        row = " | ".join(f"{count[kind, outcome]:,}" for outcome in outcomes)
        lines.append(f"| {kind} | {row} |")
    total = Counter(one.outcome for one in results)
    row = " | ".join(f"{total[outcome]:,}" for outcome in outcomes)
    return "\n".join([*lines, f"| all | {row} |"])


def packaged(images: np.ndarray) -> np.ndarray:
    """theta_E [arcsec] of images by the network that comes with lensjax."""
    from lensjax.learning import pretrained

    model = pretrained.load("uniform-5")
    column = parameters.columns().index("theta_E_arcsec")
    blocks = np.array_split(images, -(-len(images) // 256))
    return np.concatenate([pretrained.predict(model, b)[:, column] for b in blocks])


def main(arguments: Any = None) -> int:
    """Break files and print the table, and the first of each kind of failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    from benchmarks import judge

    images = judge.mocks(64)
    images = images[[not quality.check(image, HSC) for image in images]]
    began = time.perf_counter()
    results = run(images, asked.inputs, asked.seed, packaged)
    print(f"{asked.inputs:,} inputs in {time.perf_counter() - began:.0f} s\n")
    print(table(results))
    failed = [one for one in results if one.outcome == "failed"]
    for one in failed[:20]:
        print(f"\n{one.kind}: {one.words}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
