"""One object's cutout: read from a FITS file, checked against a survey, made an image.

Layout: one file an object, one image extension a band named by EXTNAME (else by
FILTER), the cards PIXSCALE [arcsec] and MAGZERO (AB), and planes PSF and NOISE where
there are any.  Row 0 is the lowest y, column 0 the lowest x, and the centre of n pixels
is (n - 1) / 2.

Files are taken apart here rather than by `astropy.io.fits.open`, which only *warns* of
a truncated file or a wrong checksum, and warnings are not safe to catch in threads;
headers are still astropy's.  Inputs are checked, never outputs: a max-pool can drop a
NaN, and a network then answers a broken image with a plausible number.
"""

import gzip
import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

FATAL = {
    "missing_file": "the file does not exist, or vanished while others were read",
    "unreadable": "the file could not be opened or unpacked",
    "not_a_file": "a directory, pipe or device where a FITS file is expected",
    "too_large": "more than a cutout: above the limit on bytes, unpacked",
    "empty_file": "zero bytes",
    "html": "a web page, probably a login page, saved under a FITS name",
    "not_fits": "the file does not begin as FITS does",
    "truncated": "the file ends before its header says",
    "bad_header": "a header that does not follow the standard",
    "bad_size": "data where the header says there is none: it lies about its size",
    "checksum": "CHECKSUM or DATASUM does not match the data",
    "compressed": "tile-compressed image",
    "missing_band": "a band of the survey is not in the file",
    "duplicate_band": "a band stands in the file twice",
    "band_conflict": "EXTNAME and FILTER name different bands",
    "band_shape": "bands of different shape",
    "cube": "a band that is not a plane",
    "pixel_scale": "pixel scale missing, unusable, or not the survey's",
    "zero_point": "a MAGZERO card that is no magnitude",
    "too_small": "fewer pixels than the network looks at",
    "nan_band": "a band without a finite pixel",
    "nan_pixel": "NaN or infinite pixels",
    "zero_band": "a band that is zero everywhere",
    "constant_band": "a band with one value everywhere",
    "masked": "over 20 % of a band's pixels are not finite, or bad in its noise plane",
    "stripe": "rows or columns without data, as at a survey's edge",
    "blank_patch": "a patch of equal pixels: no data",
    "negative_sky": "the sky lies far below zero",
    "high_sky": "the sky lies far above zero: not subtracted",
    "wrong_units": "the noise does not fit the zero point: another unit",
    "saturated": "a saturated star: clipped, or too bright beside the lens",
}
"""Flags with which no prediction is given."""

WARNING = {
    "no_zero_point": "no MAGZERO card: the survey's zero point is assumed",
    "rescaled": "another zero point, converted exactly",
    "orientation": "WCS rotated or mirrored: ex, ey, x, y are along the pixel axes",
    "thin_edge": "one or two outermost rows or columns without data",
    "shifted_band": "two neighbouring bands look shifted against each other",
}
"""Flags that come with a prediction."""

MAX_BYTES = 64 * 2**20  # four bands of 2000 x 2000; stops a gzip bomb
MASKED_FRACTION = 0.2
SCALE_TOLERANCE = 0.005  # 0.3 pixels over 64, and 0.5 % of theta_E
SKY_BELOW = 3.0  # median of the frame, in units of the pixel noise
# Faintest 5 % of pixels, same units: real LRGs reach 3, an unsubtracted sky about 300.
SKY_ABOVE = 30.0
# Pixel noise against the survey's [mag]: real HSC cutouts lie within 0.8, DES as DES
# too; nJy or zero point 30 taken for counts at 27 are 4.4 and 3 off, nanomaggies -4.5.
UNITS_TOLERANCE = 2.0
UNITS = {22.5: "nanomaggies", 27.0: "HSC counts", 30.0: "DES counts", 31.4: "nJy"}
# An i = 18 star in 0.6 arcsec seeing, where HSC saturates, peaks at 17.05 mag/arcsec2;
# the core of a nearby elliptical can reach 16.2, so the middle is not judged by this.
SATURATION_MAG = 17.0
SATURATION_SCALE = 0.1  # from this pixel scale on: sharper images of cores are brighter
LENS_RADIUS = 1.0  # [arcsec] around the centre
PLATEAU = 5  # so many pixels at exactly the maximum are no coincidence
BLANK = 4  # side of a patch of equal pixels; noise of 1 ADU makes one in 500 images
THIN_EDGE = 2  # real HSC cutouts often have a dead last row; networks learn with it
SHIFT = 2  # pixels

_BLOCK = 2880
_PIXEL = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_GENERIC = {"", "IMAGE", "SCI", "SCIENCE", "DATA", "PRIMARY"}
_BAND = re.compile(r"(?:(?:HSC|DES|DECAM|LSST|SDSS|PS1|SUBARU)[-_. ]?)?([A-Z])[0-9]?")
_PLANE = re.compile(r"(PSF|NOISE)(?:[-_](.+))?|(.+)[-_](PSF|NOISE)")


class CutoutError(ValueError):
    """A file that holds no usable cutout."""

    def __init__(self, flag: str, message: str):
        super().__init__(message)
        self.flag = flag  # a key of FATAL


class Cutout(NamedTuple):
    """One object as its file has it; every plane is (ny, nx) float32 and contiguous."""

    bands: dict[str, np.ndarray]  # in the order asked for, in the file's unit
    pixel_scale: float  # [arcsec]
    zero_point: dict[str, float | None]  # AB magnitude of one count; None: no card
    psf: dict[str, np.ndarray]  # by band, "" for one that serves all
    noise: dict[str, np.ndarray]
    facts: dict[str, Any]  # OBJECT, RA, DEC, FILTER, where the header has them
    warnings: dict[str, str]  # flag -> what a person should know


class Image(NamedTuple):
    """What the network sees of a cutout, and what is to be said about it."""

    pixels: (
        np.ndarray
    )  # (size, size, band) float32, survey's zero point; fatal: do not use
    shift: float  # the file's centre in the crop's coordinates, x and y alike [arcsec]
    flags: dict[str, str]  # flag -> message


def is_fatal(flags: Iterable[str]) -> bool:
    """Whether any of the flags forbids an image; one that is not known does."""
    return any(flag not in WARNING for flag in flags)


def read(
    path: str | os.PathLike, bands: Sequence[str] = ("G", "R", "I", "Z")
) -> Cutout:
    """Read one object's cutout.

    Bands go by name, in any order and case; HSC-G, HSC-R2, i2 and a FILTER card under
    a generic EXTNAME are understood, other bands in the file ignored.  Without PIXSCALE
    the scale is the WCS's (CD, or CDELT with PC); without both the file is refused.

    Raises
    ------
    CutoutError
        With a flag of `FATAL` and a message that names the file, the value and the
        remedy.
    """
    name = Path(path).name
    raw = _content(path)
    try:
        return _cutout(_hdus(raw), tuple(b.upper() for b in bands))
    except CutoutError as error:
        raise CutoutError(error.flag, f"{name}: {error}") from None
    except (Exception, Warning) as error:  # astropy's own words on a malformed card
        raise CutoutError("bad_header", f"{name}: {error}; fetch it again") from error


def prepare(cutout: Cutout, survey: Any) -> Image:
    """Crop, convert and check a cutout for a survey.

    Parameters
    ----------
    cutout : Cutout
        From `read` with the survey's bands.
    survey : Survey
        `bands`, `pixel_scale` [arcsec], `zero_point` [AB], `image_size` [pixel] and
        `sky_sigma` [counts, by band].

    Notes
    -----
    The crop to m of n pixels begins at pixel (n - m) // 2.  For n - m even the two
    centres agree.  For n - m odd the crop's centre lies half a pixel below the file's
    in x and y, so the file's centre appears at +0.5 pixel in the crop: that is `shift`,
    to be taken off predicted centres.
    """
    size, scale = survey.image_size, survey.pixel_scale
    ny, nx = next(iter(cutout.bands.values())).shape
    flags = dict(cutout.warnings)
    empty = np.full((size, size, len(survey.bands)), np.nan, np.float32)
    if abs(cutout.pixel_scale / scale - 1) > SCALE_TOLERANCE:
        flags["pixel_scale"] = (
            f"{cutout.pixel_scale:.4g} arcsec per pixel where the network knows "
            f"{scale:g}: resample to {scale:g}, or train for this scale"
        )
    if min(ny, nx) < size:
        flags["too_small"] = (
            f"got {ny} x {nx}, need at least {size} x {size} at {scale:g} arcsec"
        )
    if is_fatal(flags):
        return Image(empty, 0.0, flags)
    if (ny - nx) % 2:
        # the shift would differ between x and y: one number could not undo it
        flags["band_shape"] = (
            f"{ny} x {nx}: cut to sides that are both even or both odd"
        )
        return Image(empty, 0.0, flags)
    y0, x0 = (ny - size) // 2, (nx - size) // 2
    window = np.s_[y0 : y0 + size, x0 : x0 + size]
    planes = [cutout.bands[band.upper()][window] for band in survey.bands]
    zero_points = np.broadcast_to(survey.zero_point, len(planes))
    factors = [
        _factor(band, cutout.zero_point[band.upper()], float(want), flags)
        for band, want in zip(survey.bands, zero_points, strict=True)
    ]
    pixels = np.stack([_times(*pair) for pair in zip(planes, factors, strict=True)], -1)
    flags |= check(pixels, survey)
    flags |= _noise_mask(cutout, survey.bands, window)
    return Image(pixels, 0.5 * scale * ((ny - size) % 2), flags)


def check(pixels: np.ndarray, survey: Any) -> dict[str, str]:
    """Look for faults in an image (ny, nx, band) in the survey's unit: flag -> message.

    Saturation is judged without a mask: pixels clipped at one value, or, beside the
    lens, a surface brightness at which the detector saturates.  A saturated star that
    the archive's pipeline painted over smoothly, and fainter than that, is not found.
    """
    found: dict[str, list[str]] = {}
    alive = []
    for k, band in enumerate(survey.bands):
        flags = _check_plane(pixels[..., k])
        for flag, text in flags.items():
            found.setdefault(flag, []).append(f"{band} {text}".strip())
        if not is_fatal(flags):
            alive.append(k)
    out = {flag: "; ".join(texts) for flag, texts in found.items()}
    noise = np.array([pixel_noise(pixels[..., k]) for k in alive])
    # a noiseless image leaves nothing to measure levels with
    if alive and (noise > 0).all():
        bands = [survey.bands[k] for k in alive]
        out |= _check_levels(pixels[..., alive], noise, bands, survey)
        if len(alive) == len(survey.bands):
            out |= _check_alignment(pixels, noise, bands)
    return out


def pixel_noise(plane: np.ndarray) -> float:
    """Measure the pixel noise (one sigma) by the differences of neighbouring pixels.

    Galaxies hardly matter; noise correlated by resampling comes out a little low.
    """
    return 1.4826 * float(np.median(np.abs(np.diff(plane, axis=1)))) / math.sqrt(2)


# --- pixels ---------------------------------------------------------------------------


def _check_plane(a: np.ndarray) -> dict[str, str]:
    """Faults of one band that need no unit."""
    bad = ~np.isfinite(a)
    if bad.all():
        return {"nan_band": ""}
    flags = {}
    if bad.any():
        flags["nan_pixel"] = f"{bad.sum()} pixels"
        if bad.mean() > MASKED_FRACTION:
            flags["masked"] = f"{bad.mean():.0%}"
    low, high = a[~bad].min(), a[~bad].max()
    if low == high:
        return flags | (
            {"zero_band": ""} if low == 0 else {"constant_band": f"{low:g}"}
        )
    # every pixel of a dead row equals its first one, or none is finite
    rows = np.flatnonzero(((a == a[:, :1]) | bad).all(1))
    columns = np.flatnonzero(((a == a[:1]) | bad).all(0))
    if len(rows) or len(columns):
        thin = _is_thin_edge(rows, a.shape[0]) and _is_thin_edge(columns, a.shape[1])
        text = f"{len(rows)} rows, {len(columns)} columns"
        flags["thin_edge" if thin else "stripe"] = text
    if np.count_nonzero(a == high) >= PLATEAU and high > 20 * pixel_noise(
        np.where(bad, 0, a)
    ):
        flags["saturated"] = f"clipped at {high:g}"
    elif "stripe" not in flags and _equal_patch(a):
        flags["blank_patch"] = f"at least {BLANK} x {BLANK} pixels"
    return flags


def _is_thin_edge(lines: np.ndarray, n: int) -> bool:
    border = (lines < THIN_EDGE) | (lines >= n - THIN_EDGE)
    return len(lines) <= THIN_EDGE and bool(border.all())


def _equal_patch(a: np.ndarray) -> bool:
    """Whether BLANK x BLANK neighbouring pixels are equal somewhere."""
    same = (
        (a[1:, 1:] == a[:-1, :-1])
        & (a[1:, 1:] == a[:-1, 1:])
        & (a[1:, 1:] == a[1:, :-1])
    )
    n = BLANK - 1
    if np.count_nonzero(same) < n * n:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(same, (n, n))
    return bool(windows.all((-1, -2)).any())


def _check_levels(
    image: np.ndarray, noise: np.ndarray, bands: Sequence[str], survey: Any
) -> dict[str, str]:
    """Check unit, sky and saturation of the bands that hold data."""
    zero_point = float(np.mean(survey.zero_point))
    expected = [survey.sky_sigma[survey.bands.index(band)] for band in bands]
    # a wrong zero point moves the noise by just as many magnitudes
    off = 2.5 * math.log10(float(np.median(noise / expected)))
    if abs(off) > UNITS_TOLERANCE:
        likely = min(UNITS, key=lambda zp: abs(zp - zero_point - off))
        near = likely != zero_point and abs(likely - zero_point - off) < 1
        guess = (
            f"values look like {UNITS[likely]}: set the card MAGZERO = {likely:g}"
            if near
            else f"the zero point seems to be about {zero_point + off:.1f}: set MAGZERO"
        )
        text = f"the noise is {off:+.1f} mag off for zero point {zero_point:g}"
        return {"wrong_units": f"{text}; {guess}"}
    flags = {}
    frame = np.ones(image.shape[:2], bool)
    frame[4:-4, 4:-4] = False
    sky = np.median(image[frame], axis=0) / noise
    if (sky < -SKY_BELOW).any():
        flags["negative_sky"] = _worst(bands, sky, np.argmin, "times the pixel noise")
    floor = np.percentile(image.reshape(-1, len(bands)), 5, axis=0) / noise
    if (floor > SKY_ABOVE).any():
        flags["high_sky"] = _worst(bands, floor, np.argmax, "times the pixel noise")
    y, x = np.indices(image.shape[:2])
    ny, nx = image.shape[:2]
    radius = np.hypot(y - (ny - 1) / 2, x - (nx - 1) / 2) * survey.pixel_scale
    peak = image[radius > LENS_RADIUS].max(0) / survey.pixel_scale**2
    if survey.pixel_scale < SATURATION_SCALE or "high_sky" in flags:
        return flags
    # a peak below the sky has no magnitude
    surface = zero_point - 2.5 * np.log10(np.where(peak > 0, peak, 1e-9))
    if (surface < SATURATION_MAG).any():
        flags["saturated"] = _worst(
            bands, surface, np.argmin, "mag/arcsec2 at the peak"
        )
    return flags


def _worst(bands: Sequence[str], values: np.ndarray, pick: Any, unit: str) -> str:
    k = int(pick(values))
    return f"{bands[k]} {values[k]:.3g} {unit}"


def _check_alignment(
    image: np.ndarray, noise: np.ndarray, bands: Sequence[str]
) -> dict[str, str]:
    """Shift between neighbouring bands, from the peak of their cross-correlation."""
    ny, nx = image.shape[:2]
    above = image - np.median(image, axis=(0, 1)) - 3 * noise
    # the root keeps one bright neighbour from deciding alone
    spectra = np.fft.rfft2(np.moveaxis(np.sqrt(np.clip(above, 0, None)), -1, 0))
    texts = []
    for k in range(len(bands) - 1):
        c = np.fft.irfft2(spectra[k] * spectra[k + 1].conj(), s=(ny, nx))
        iy, ix = np.unravel_index(np.argmax(c), c.shape)
        dy, dx = (iy + ny // 2) % ny - ny // 2, (ix + nx // 2) % nx - nx // 2
        # colour gradients move the peak a little; a true shift leaves little at zero
        if max(abs(dx), abs(dy)) >= SHIFT and c[0, 0] < 0.8 * c[iy, ix]:
            texts.append(f"{bands[k]} against {bands[k + 1]} by ({dx}, {dy}) pixels")
    return {"shifted_band": "; ".join(texts)} if texts else {}


def _noise_mask(cutout: Cutout, bands: Sequence[str], window: Any) -> dict[str, str]:
    """Count bad pixels in the noise planes: a huge, a non-positive or no value."""
    for band in bands:
        plane = cutout.noise.get(band.upper(), cutout.noise.get(""))
        if plane is None or plane.shape != cutout.bands[band.upper()].shape:
            continue
        noise = plane[window]
        good = np.isfinite(noise) & (noise > 0)
        good &= noise < 1e4 * np.median(noise[good]) if good.any() else good
        if (bad := 1 - good.mean()) > MASKED_FRACTION:
            return {"masked": f"{band} {bad:.0%} in its noise plane"}
    return {}


def _factor(band: str, have: float | None, want: float, flags: dict[str, str]) -> float:
    """From counts at one zero point to counts at another: 10^(0.4 (want - have))."""
    if have is None:
        flags["no_zero_point"] = f"no MAGZERO card, {want:g} assumed"
    elif have != want:
        known = f" ({UNITS[have]})" if have in UNITS else ""
        flags["rescaled"] = f"zero point {have:g}{known} converted to {want:g}"
        return 10 ** (0.4 * (want - have))
    return 1.0


def _times(plane: np.ndarray, factor: float) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow is then flagged as nan_pixel
        return plane if factor == 1 else plane * np.float32(factor)


# --- from HDUs to a cutout ------------------------------------------------------------


def _cutout(
    hdus: Iterable[tuple[fits.Header, bytes]], bands: tuple[str, ...]
) -> Cutout:
    planes: dict[str, np.ndarray] = {}
    headers: dict[str, fits.Header] = {}
    extra: dict[str, dict[str, np.ndarray]] = {"PSF": {}, "NOISE": {}}
    seen, primary = [], None
    for header, data in hdus:
        primary = header if primary is None else primary
        name = str(header.get("EXTNAME", "")).strip().upper()
        if header.get("ZIMAGE") is True:
            raise CutoutError(
                "compressed", f"extension {name} is tiled: run funpack on it"
            )
        if header["NAXIS"] == 0 or header.get("XTENSION", "IMAGE").strip() != "IMAGE":
            continue
        if match := _PLANE.fullmatch(name):
            kind = match[1] or match[4]
            owner = _band(match[2] or match[3] or "", bands) or ""
            extra[kind][owner] = _plane(header, data, name)
            continue
        band = _band_of(header, name, bands)
        seen.append(band or name or "(no name)")
        if band not in bands:
            continue
        if band in planes:
            raise CutoutError("duplicate_band", f"band {band} stands twice: keep one")
        planes[band], headers[band] = _plane(header, data, band), header
    if missing := [b for b in bands if b not in planes]:
        raise CutoutError(
            "missing_band",
            f"no band {', '.join(missing)} (found {', '.join(seen) or 'no image'}): "
            "name extensions by EXTNAME or FILTER, or use a network for these bands",
        )
    shapes = {b: planes[b].shape for b in bands}
    if len(set(shapes.values())) > 1:
        text = ", ".join(f"{b} {ny} x {nx}" for b, (ny, nx) in shapes.items())
        raise CutoutError("band_shape", f"{text}: cut all bands to one shape")
    warnings: dict[str, str] = {}
    scales = {b: _pixel_scale(headers[b], primary, warnings) for b in bands}
    scale = scales[bands[0]]
    if any(abs(s / scale - 1) > SCALE_TOLERANCE for s in scales.values()):
        raise CutoutError("pixel_scale", f"differs between bands: {scales}; resample")
    return Cutout(
        bands={b: planes[b] for b in bands},
        pixel_scale=scale,
        zero_point={b: _zero_point(headers[b], primary) for b in bands},
        psf=extra["PSF"],
        noise=extra["NOISE"],
        facts={
            key.lower(): h[key]
            for h in (headers[bands[0]], primary)
            for key in ("OBJECT", "RA", "DEC")
            if key in h
        },
        warnings=warnings,
    )


def _band(name: str, bands: Sequence[str]) -> str | None:
    """Tell the band that a name means: itself, or the letter of HSC-R2, i2, des_g."""
    name = name.strip().upper()
    if name in bands:
        return name
    match = _BAND.fullmatch(name)
    return match[1] if match else None


def _band_of(header: fits.Header, name: str, bands: Sequence[str]) -> str | None:
    by_name = None if name in _GENERIC else _band(name, bands)
    by_filter = _band(str(header.get("FILTER", "")), bands)
    if by_name and by_filter and by_name != by_filter:
        raise CutoutError(
            "band_conflict", f"EXTNAME says {by_name}, FILTER {by_filter}: correct one"
        )
    return by_name or (by_filter if name in _GENERIC else None)


def _plane(header: fits.Header, data: bytes, name: str) -> np.ndarray:
    shape = [header[f"NAXIS{i}"] for i in range(header["NAXIS"], 0, -1)]
    plane = [n for n in shape if n != 1] if len(shape) > 2 else shape
    if len(plane) != 2 or 0 in plane:
        raise CutoutError(
            "cube",
            f"{name} has shape {' x '.join(map(str, shape))}, not rows x columns: "
            "which axis is the band cannot be known; write one extension a band",
        )
    raw = np.frombuffer(data, _PIXEL[header["BITPIX"]]).reshape(plane)
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    with np.errstate(over="ignore", invalid="ignore"):  # becomes inf, and is flagged
        if raw.dtype.kind == "f" and (scale, zero) == (1, 0):
            return np.ascontiguousarray(raw, dtype=np.float32)
        values = raw * np.float64(scale) + zero
        if raw.dtype.kind != "f" and "BLANK" in header:
            values[raw == header["BLANK"]] = np.nan
        return values.astype(np.float32)


def _number(
    header: fits.Header, primary: fits.Header, key: str, flag: str
) -> float | None:
    """Read a card of the extension, else of the primary header, else None."""
    value = header.get(key, primary.get(key))
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise CutoutError(flag, f"card {key} = {value!r} is no number: correct it")
    return number


def _zero_point(header: fits.Header, primary: fits.Header) -> float | None:
    value = _number(header, primary, "MAGZERO", "zero_point")
    if value is not None and not 0 < value < 50:
        raise CutoutError("zero_point", f"MAGZERO = {value:g} is no AB zero point")
    return value


def _pixel_scale(
    header: fits.Header, primary: fits.Header, warnings: dict[str, str]
) -> float:
    card = _number(header, primary, "PIXSCALE", "pixel_scale")
    if card is not None and card <= 0:
        raise CutoutError(
            "pixel_scale", f"PIXSCALE = {card:g}: must be arcsec per pixel"
        )
    wcs = _wcs_scale(header, warnings)
    if card is None and wcs is None:
        raise CutoutError(
            "pixel_scale", "no pixel scale: set PIXSCALE [arcsec per pixel], or a WCS"
        )
    if (
        card is not None
        and wcs is not None
        and abs(card / wcs - 1) > 2 * SCALE_TOLERANCE
    ):
        raise CutoutError(
            "pixel_scale",
            f"PIXSCALE = {card:g}, but the WCS has {wcs:.4g}: correct one",
        )
    return wcs if card is None else card


def _wcs_scale(header: fits.Header, warnings: dict[str, str]) -> float | None:
    """Arcsec per pixel from CD, or CDELT with PC; None without a celestial WCS."""
    if not str(header.get("CTYPE1", "")).upper().startswith("RA"):
        return None
    cd = [[header.get(f"CD{i}_{j}") for j in (1, 2)] for i in (1, 2)]
    if all(v is None for row in cd for v in row):
        if "CDELT1" not in header or "CDELT2" not in header:
            return None
        cd = [
            [
                header[f"CDELT{i}"] * header.get(f"PC{i}_{j}", float(i == j))
                for j in (1, 2)
            ]
            for i in (1, 2)
        ]
    (a, b), (c, d) = [[float(v or 0) for v in row] for row in cd]
    x, y, area = math.hypot(a, c), math.hypot(b, d), a * d - b * c
    if not (x > 0 and y > 0) or abs(x / y - 1) > 0.01 or abs(area) < 0.99 * x * y:
        raise CutoutError("pixel_scale", "the WCS has no square pixels: resample")
    # the common orientation: north along +y, east along -x
    angle = math.degrees(math.atan2(b, d))
    if area > 0 or abs(angle) > 1:
        mirrored = " and mirrored" if area > 0 else ""
        warnings["orientation"] = (
            f"WCS rotated by {angle:.0f} deg{mirrored}: values are along the pixel axes"
        )
    return 3600 * math.sqrt(abs(area))


# --- from a file to HDUs --------------------------------------------------------------


def _content(path: str | os.PathLike) -> bytes:
    """Read the bytes of a file, unpacked if it is a gzip."""
    name = Path(path).name
    try:
        # before opening: a pipe would wait for ever
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CutoutError("not_a_file", f"{name}: not a regular file: remove it")
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
            if raw[:2] == b"\x1f\x8b":
                file.seek(0)
                raw = gzip.GzipFile(fileobj=file).read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CutoutError(
            "missing_file", f"{name}: does not exist (any more)"
        ) from None
    except EOFError:
        raise CutoutError(
            "truncated", f"{name}: the gzip ends early: fetch it again"
        ) from None
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CutoutError("unreadable", f"{name}: {reason}") from error
    head = raw[:512].lstrip().lower()
    if len(raw) > MAX_BYTES:
        limit = MAX_BYTES // 2**20
        text = f"more than {limit} MiB: a mosaic? Cut it out first"
        raise CutoutError("too_large", f"{name}: {text}")
    if not raw:
        raise CutoutError("empty_file", f"{name}: no byte in it: fetch it again")
    if (
        head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
        or b"<html" in head
    ):
        text = "a web page, not FITS: log in to the archive and fetch it again"
        raise CutoutError("html", f"{name}: {text}")
    if raw[:9] != b"SIMPLE  =":
        text = "truncated" if b"SIMPLE  =".startswith(raw[:9]) else "not_fits"
        raise CutoutError(text, f"{name}: begins with {raw[:9]!r}, not as FITS does")
    return raw


def _hdus(raw: bytes) -> Iterator[tuple[fits.Header, bytes]]:
    """Header and data of each HDU, sizes and checksums verified."""
    at, number = 0, 0
    while at < len(raw):
        if number and not raw[at:].strip(b"\0"):
            return  # zeros as tar leaves them
        if number and raw[at : at + 8] != b"XTENSION":
            raise CutoutError(
                "bad_size",
                f"bytes at {at} are not an extension: header {number - 1} gives a "
                "wrong size, or the file has rubbish at its end; fetch it again",
            )
        start = _header_end(raw, at, number)
        header = fits.Header.fromstring(raw[at:start])
        size = _data_size(header, number)
        end = start + -(-size // _BLOCK) * _BLOCK
        if end > len(raw):
            raise CutoutError(
                "truncated",
                f"header {number} promises {end} bytes, the file has {len(raw)}: "
                "truncated, or the header lies about its size; fetch it again",
            )
        if header.get("XTENSION", "IMAGE").strip() == "IMAGE" and raw[
            start + size : end
        ].strip(b"\0"):
            raise CutoutError(
                "bad_size",
                f"data after the size that header {number} gives: fetch it again",
            )
        _verify(header, raw[at:end], raw[start:end], number)
        yield header, raw[start : start + size]
        at, number = end, number + 1


def _header_end(raw: bytes, at: int, number: int) -> int:
    for end in range(at + _BLOCK, len(raw) + 1, _BLOCK):
        text = raw[end - _BLOCK : end].rstrip(b" ")
        if text.endswith(b"END") and len(text) % 80 == 3:
            return end
    raise CutoutError("truncated", f"header {number} has no END: fetch the file again")


def _data_size(header: fits.Header, number: int) -> int:
    """Bytes of data, without the padding."""

    def count(key: str, default: int | None = None) -> int:
        value = header.get(key, default)
        if type(value) is not int or value < 0:
            raise CutoutError("bad_header", f"header {number}: {key} = {value!r}")
        return value

    if header.get("BITPIX") not in _PIXEL:
        value = header.get("BITPIX")
        raise CutoutError("bad_header", f"header {number}: BITPIX = {value!r}")
    axes = [count(f"NAXIS{i + 1}") for i in range(count("NAXIS"))]
    values = count("GCOUNT", 1) * (count("PCOUNT", 0) + math.prod(axes)) if axes else 0
    return abs(header["BITPIX"]) // 8 * values


def _verify(header: fits.Header, hdu: bytes, data: bytes, number: int) -> None:
    """DATASUM is the ones' complement sum of the data; the HDU's sum is all ones."""
    declared = str(header.get("DATASUM", "")).strip()
    if declared and (not declared.isdigit() or int(declared) != _sum32(data)):
        text = f"DATASUM = {declared}, the data give {_sum32(data)}: fetch it again"
        raise CutoutError("checksum", f"HDU {number}: {text}")
    if str(header.get("CHECKSUM", "")).strip() and _sum32(hdu) not in (0, 0xFFFFFFFF):
        raise CutoutError("checksum", f"HDU {number}: CHECKSUM fails: fetch it again")


def _sum32(data: bytes) -> int:
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
