"""A whole and healthy FITS file: from its bytes to its HDUs, planes and numbers."""

import gzip
import io
import math
import os
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.base import ExtensionHDU
from astropy.utils.exceptions import AstropyUserWarning

MAX_BYTES = 64 * 2**20  # four bands of 2000 x 2000; stops a gzip bomb
SOME_ZEROS = 4  # pixels; a dead row and column leave one

# astropy only warns of a file that is cut short or fails its checksum; filters are the
# process's, so one thread at a time turns these warnings into errors.
_LOCK = threading.Lock()
_HARMLESS = ("Unexpected extra padding", "Invalid 'BLANK' keyword")
_MEANING = {  # words of astropy -> flag; bad_header for all others
    "truncated": "truncated",
    "buffer is too small": "truncated",
    "END card": "truncated",
    "not multiple of": "truncated",  # a header cut short, or rubbish at the end
    "sum verification failed": "checksum",
}


class CutoutError(ValueError):
    """A file that holds no usable cutout."""

    def __init__(self, flag: str, message: str):
        super().__init__(flag, message)  # both: what pickle and copy make it of
        self.flag = flag  # a key of `quality.FATAL`
        self.message = message

    def __str__(self) -> str:
        """Say what is wrong and the remedy."""
        return self.message


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[fits.HDUList]:
    """HDUs of a whole and healthy FITS file; CutoutError, with its name, otherwise.

    Errors raised while they are open get the file's name too.
    """
    name = Path(path).name
    try:
        raw = io.BytesIO(_content(path))
        with _LOCK, warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            for words in _HARMLESS:
                warnings.filterwarnings("ignore", words)
            # not lazy: all HDUs are checked; uint=False: BLANK is NaN in all integers
            options = {"memmap": False, "lazy_load_hdus": False, "uint": False}
            with fits.open(raw, checksum=True, **options) as hdus:
                for number, hdu in enumerate(hdus):
                    _check(hdu, number)
                yield hdus
    except CutoutError as error:
        raise CutoutError(error.flag, f"{name}: {error}") from None
    except Exception as error:
        text = " ".join(str(error).split())
        flag = next((f for words, f in _MEANING.items() if words in text), "bad_header")
        raise CutoutError(flag, f"{name}: {text}; fetch it again") from error


# --- from a file to bytes -------------------------------------------------------------


def _content(path: str | os.PathLike) -> bytes:
    """Read the bytes of a file, unpacked if it is a gzip."""
    try:
        # before opening: a pipe would wait for ever
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CutoutError("not_a_file", "not a regular file: remove it")
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
            if raw[:2] == b"\x1f\x8b":
                file.seek(0)
                raw = gzip.GzipFile(fileobj=file).read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CutoutError("missing_file", "does not exist (any more)") from None
    except EOFError:
        text = "the gzip ends early: fetch it again"
        raise CutoutError("truncated", text) from None
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CutoutError("unreadable", str(reason)) from error
    head = raw[:512].lstrip().lower()
    if len(raw) > MAX_BYTES:
        text = f"more than {MAX_BYTES // 2**20} MiB: a mosaic? Cut it out first"
        raise CutoutError("too_large", text)
    if not raw:
        raise CutoutError("empty_file", "no byte in it: fetch it again")
    if (
        head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
        or b"<html" in head
    ):
        text = "a web page, not FITS: log in to the archive and fetch it again"
        raise CutoutError("html", text)
    if raw[:9] != b"SIMPLE  =":
        flag = "truncated" if b"SIMPLE  =".startswith(raw[:9]) else "not_fits"
        raise CutoutError(flag, f"begins with {raw[:9]!r}, not as FITS does")
    return raw


# --- from HDUs to arrays and numbers -------------------------------------------------


def _check(hdu: Any, number: int) -> None:
    """Refuse what astropy lets pass: no extension, or a size that is not the data's."""
    if number and not isinstance(hdu, ExtensionHDU):
        text = f"HDU {number} is no extension: header {number - 1} gives a wrong size"
        raise CutoutError("bad_header", f"{text}; fetch it again")
    if isinstance(hdu, fits.CompImageHDU):
        tiles = zip(hdu.shape, hdu.tile_shape, strict=True)
        spare = len(hdu.compressed_data) != math.prod(-(-n // t) for n, t in tiles)
    elif hdu.is_image:
        place = hdu.fileinfo()
        place["file"].seek(place["datLoc"] + hdu.size)
        spare = place["file"].read(place["datSpan"] - hdu.size).strip(b"\0")
    else:
        return
    if spare:
        text = f"header {number} gives a size that is not its data's: fetch it again"
        raise CutoutError("bad_header", text)


def plane(hdu: Any, name: str, dtype: Any = np.float32) -> np.ndarray:
    """Rows and columns of an image HDU: native, contiguous, scaled, BLANK as NaN."""
    shape = hdu.shape
    sides = [n for n in shape if n != 1] if len(shape) > 2 else shape
    if len(sides) != 2 or 0 in sides:
        raise CutoutError(
            "cube",
            f"{name} has shape {' x '.join(map(str, shape))}, not rows x columns: "
            "which axis is the band cannot be known; write one extension a band",
        )
    if hdu.size > MAX_BYTES:  # tiles can be a bomb too
        raise CutoutError("too_large", f"{name} is {sides[0]} x {sides[1]}: cut it out")
    with np.errstate(over="ignore", invalid="ignore"):  # becomes inf, and is flagged
        return np.ascontiguousarray(hdu.data.reshape(sides), dtype=dtype)


def check_rows(hdu: Any, name: str) -> None:
    """Refuse an image of the sky that ends in zeros, but not in whole rows of them.

    A header that claims rows of 66 pixels where 64 were written takes the zeros that
    fill up the block for the rest of the image, which is sheared.
    """
    there = np.flatnonzero(hdu.data)
    # whole numbers may well be 0, and so may a PSF all around
    if hdu.header.get("BITPIX", 8) > 0 or not len(there) or there[0] > 0:
        return
    zeros = hdu.data.size - 1 - int(there[-1])
    if zeros % hdu.shape[-1] >= SOME_ZEROS:
        raise CutoutError(
            "bad_header",
            f"the last {zeros} pixels of {name} are zeros, as what fills up a file is: "
            "NAXIS1 or NAXIS2 is not the data's; fetch it again",
        )


def number(
    header: fits.Header, primary: fits.Header, key: str, flag: str
) -> float | None:
    """Read a card of the extension, else of the primary header, else None."""
    value = header.get(key, primary.get(key))
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result) or isinstance(value, bool):
        raise CutoutError(flag, f"card {key} = {value!r} is no number: correct it")
    return result
