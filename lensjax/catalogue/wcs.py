"""How the pixels of a plane lie on the sky: the WCS of its header, as wcslib has it.

A header's WCS is the one without a letter; alternative ones (CTYPE1A) are not looked
at.  An extension without CTYPE has the primary header's, unless INHERIT = F; with
INHERIT = T single cards that it lacks are the primary's, too, where they cannot
contradict its own.  Axes may be equatorial of any equinox, galactic, ecliptic or
supergalactic, in any order and unit: positions and directions that come out are ICRS.
CTYPE without a longitude and a latitude (LINEAR, DETECTOR) is no WCS.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy import log
from astropy.io import fits
from numpy.typing import ArrayLike

from lensjax.catalogue._fits_files import CutoutError, number

if TYPE_CHECKING:  # a quarter of a second, which files without a WCS do not need
    from astropy.wcs import WCS

SCALE_TOLERANCE = 0.005  # 0.3 pixels over 64, and 0.5 % of theta_E
SQUARE = 0.01  # how far from 1 the axes of a pixel's image on the sky may be
UPRIGHT = 1.0  # [deg] between +y and north that do not matter

_CARD = re.compile(
    r"(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA)\d+|(CD|PC|PV|PS)\d+_\d+|(CD|PC)\d{6}"
    r"|WCSAXES|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|[AB]P?_(ORDER|\d+_\d+)"
)
_DISTORTION = re.compile(r"[AB]P?_.*|(PV|PS)\d.*")
_SIZE = re.compile(r"(CD|PC|CDELT)\d.*")
_LINEAR = re.compile(rf"{_SIZE.pattern}|CROTA\d+")
_WITH_LINEAR = re.compile(rf"{_LINEAR.pattern}|{_DISTORTION.pattern}")
_NUMBER = re.compile(r"(CRPIX|CRVAL|CD|PC|CDELT|CROTA)\d.*")
_SKY = re.compile(r"(RA|DEC|[A-Z]LON|[A-Z]LAT|[A-Z]{2}L[NT])(-.*|\s*)", re.I)
_WCSLIB = re.compile(r"ERROR \d+ in \w+\(\) at line \d+ of file \S+: ")


class Grid(NamedTuple):
    """How a plane's pixels lie on the sky."""

    wcs: WCS  # two axes of pixels, x first
    shape: tuple[int, int]  # ny, nx
    jacobian: tuple[tuple[float, float], tuple[float, float]]
    # of (east, north) by (x, y) at the plane's middle [arcsec per pixel]
    scale: float  # side of a pixel there [arcsec]
    lacks: str  # of the cards of its position, the first that is missing


def read(
    header: fits.Header,
    primary: fits.Header,
    shape: tuple[int, ...],
    flag: str = "pixel_scale",
    inherit: bool = True,
) -> Grid | None:
    """The WCS of an image HDU with its `header`, None where it has none.

    shape is the HDU's, axes of length 1 included.  Without `inherit` the primary
    header counts only where INHERIT = T.  CutoutError, with `flag`, for one that cannot
    be used: singular, of an unknown projection or unit, without pixel size, with pixels
    that are not square, or one that covers another plane of a cube.
    """
    own = _has_wcs(header)
    says = header.get("INHERIT")
    from_primary = says is True or (inherit and not own and says is not False)
    from_primary &= primary is not header and _has_wcs(primary)
    if not own and not from_primary:
        return None
    cards = _cards(header)
    if from_primary:
        # a rotation of the one and a matrix of the other would be a third WCS
        complete = any(_LINEAR.fullmatch(key) for key in cards)
        cards = {
            key: card
            for key, card in _cards(primary).items()
            if not (complete and _WITH_LINEAR.fullmatch(key))
        } | cards
    try:
        return _grid("".join(cards.values()), tuple(shape))
    except ValueError as error:
        raise CutoutError(flag, str(error)) from None


def pixel_scale(
    header: fits.Header,
    primary: fits.Header,
    grid: Grid | None,
    flag: str = "pixel_scale",
) -> float | None:
    """Arcsec per pixel by PIXSCALE, else by the WCS, else None.

    CutoutError, with `flag`, where the two differ by more than 1 %: which one is right
    cannot be known.
    """
    card = number(header, primary, "PIXSCALE", flag)
    if card is not None and card <= 0:
        raise CutoutError(flag, f"PIXSCALE = {card:g}: must be arcsec per pixel")
    if card is None or grid is None:
        return grid.scale if card is None and grid else card
    if abs(card / grid.scale - 1) > 2 * SCALE_TOLERANCE:
        text = f"PIXSCALE = {card:g}, but the WCS has {grid.scale:.4g}: correct one"
        raise CutoutError(flag, text)
    return card


def orientation(grid: Grid) -> str:
    """How it is not the common one, north along +y and east along -x; else empty."""
    (a, b), (c, d) = grid.jacobian
    mirrored, angle = a * d > b * c, math.degrees(math.atan2(b, d))
    if not mirrored and abs(angle) <= UPRIGHT:
        return ""
    how = " and mirrored" if mirrored else ""
    return f"WCS rotated by {angle:.0f} deg{how}: values are along the pixel axes"


def to_sky(wcs: WCS, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination (ICRS) [deg] of pixels, the first being 0.

    nan where the projection ends.
    """
    world = wcs.all_pix2world(np.stack([x, y], -1).reshape(-1, 2), 0)
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    lon, lat = (world[:, k].reshape(shape).copy() for k in (wcs.wcs.lng, wcs.wcs.lat))
    if (frame := _frame(wcs)) is None:
        return lon, lat
    from astropy.coordinates import SkyCoord

    sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    return sky.ra.deg, sky.dec.deg


def to_pixels(wcs: WCS, ra: ArrayLike, dec: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Pixels x, y of places (ICRS) [deg]; nan where the projection does not reach."""
    ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
    lon, lat = ra, dec
    if (frame := _frame(wcs)) is not None:
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(ra, dec, unit="deg", frame="icrs").transform_to(frame)
        lon, lat = sky.spherical.lon.deg, sky.spherical.lat.deg
    world = np.empty((ra.size, 2))
    world[:, wcs.wcs.lng], world[:, wcs.wcs.lat] = lon.ravel(), lat.ravel()
    try:
        pixels = wcs.all_world2pix(world, 0, quiet=True)
    except ValueError:  # all of them beyond the horizon
        pixels = np.full(world.shape, np.nan)
    return pixels[:, 0].reshape(ra.shape), pixels[:, 1].reshape(ra.shape)


# --- from cards to a grid -------------------------------------------------------------


def _has_wcs(header: fits.Header) -> bool:
    return "CTYPE1" in header or "CTYPE2" in header


def _cards(header: fits.Header) -> dict[str, str]:
    """The cards of the WCS by keyword, as they are written, 80 letters each."""
    # the header as a whole would be verified card by card, which takes longer than all
    return {c.keyword: c.image for c in header.cards if _CARD.fullmatch(c.keyword)}


@lru_cache(32)  # an object's bands mostly share it, and wcslib takes a millisecond
def _grid(text: str, shape: tuple[int, ...]) -> Grid | None:
    header = fits.Header.fromstring(text)
    values = {key: value for key, value in header.items() if value is not None}
    types = [str(value) for key, value in values.items() if key[:5] == "CTYPE"]
    if not any(map(_SKY.fullmatch, types)):
        return None
    for key in set(header) - set(values):  # without a value wcslib stumbles over it
        del header[key]
    for key in filter(_NUMBER.fullmatch, values):
        value = values[key]
        if isinstance(value, bool | str) or not math.isfinite(value):
            # wcslib would take the default instead
            raise ValueError(f"card {key} = {value!r} is no number: correct it")
    if not any(values[key] for key in filter(_SIZE.fullmatch, values)):
        raise ValueError("the WCS has no pixel size: complete CD (or CDELT)")
    # as `plane` has it: a cube's axes of length 1 are dropped
    axes = [len(shape) - k for k, n in enumerate(shape) if n != 1 or len(shape) == 2]
    axes = sorted(axes)
    wcs = _wcs(header, axes)
    position = [f"{key}{axis}" for key in ("CRVAL", "CRPIX") for axis in axes]
    nx, ny = (shape[-axis] for axis in axes)
    jacobian = _jacobian(wcs, nx, ny)
    wide, narrow = np.linalg.svd(jacobian, compute_uv=False)
    if not wide < (1 + SQUARE) * narrow:
        x, y = np.hypot(*jacobian)
        what = "skewed" if abs(x - y) < SQUARE * y else "not square"
        raise ValueError(
            f"the WCS has pixels of {x:.4g} x {y:.4g} arcsec that are {what}: resample"
        )
    return Grid(
        wcs,
        (ny, nx),
        tuple(tuple(float(v) for v in row) for row in jacobian),
        float(math.sqrt(wide * narrow)),
        next((key for key in position if key not in values), ""),
    )


def _wcs(header: fits.Header, axes: list[int]) -> WCS:
    """The WCS of two axes by astropy; ValueError, with wcslib's words, without one."""
    from astropy.wcs import WCS, Wcsprm

    silent = log.disabled
    try:
        # of cards that astropy mends, and of SIP under a CTYPE that does not say so
        log.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if any(_DISTORTION.fullmatch(key) for key in header):
                wcs = WCS(header)
            else:  # ten times as fast, and the same without these
                cards = Wcsprm(header=header.tostring().encode())
                cards.fix()
                wcs = WCS(naxis=cards.naxis)
                wcs.wcs = cards
            if wcs.naxis > 2:
                wcs = wcs.sub(axes)
            wcs.wcs.set()
            if wcs.naxis != 2 or wcs.wcs.lng < 0 or wcs.wcs.lat < 0:
                raise ValueError("it has no longitude and latitude in this plane")
            _frame(wcs)
    except Exception as error:
        text = _WCSLIB.sub("", " ".join(str(error).split())).rstrip(".")
        text = f"the WCS cannot be used ({text}): correct it, or remove its cards"
        raise ValueError(text) from None
    finally:
        log.disabled = silent
    return wcs


def _frame(wcs: WCS):
    """The frame of its longitude and latitude; None for ICRS, or FK5 of 2000.

    The two differ by 0.02 arcsec, and are often confused.
    """
    kind = wcs.wcs.ctype[wcs.wcs.lng][:4]
    if kind == "ELON":  # which astropy would take for right ascension
        from astropy.coordinates import BarycentricMeanEcliptic

        equinox = wcs.wcs.equinox
        equinox = f"J{2000.0 if math.isnan(equinox) else equinox}"
        return BarycentricMeanEcliptic(equinox=equinox)
    if kind == "SLON":
        return "supergalactic"
    if kind.rstrip("-") not in ("RA", "GLON"):
        raise ValueError(f"{kind} is no longitude that galaxies have")
    system, equinox = wcs.wcs.radesys, wcs.wcs.equinox
    if kind[:2] == "RA" and (
        system in ("", "ICRS") or (system == "FK5" and equinox == 2000)
    ):
        return None
    from astropy.wcs.utils import wcs_to_celestial_frame

    return wcs_to_celestial_frame(wcs)


def _jacobian(wcs: WCS, nx: int, ny: int) -> np.ndarray:
    """(east, north) by (x, y) [arcsec per pixel], by differences at the middle."""
    step = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) / 2
    ra, dec = np.radians(
        to_sky(wcs, (nx - 1) / 2 + step[:, 0], (ny - 1) / 2 + step[:, 1])
    )
    if not np.isfinite(ra + dec).all():
        text = "the image lies outside its projection"
        raise ValueError(f"the WCS cannot be used ({text}): correct CRPIX or CRVAL")
    # unit vectors: near a pole an angle in longitude is next to nothing
    place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra[0]), np.cos(ra[0]), 0.0])
    north = np.cross(place[:, 0], east)
    along = np.stack([place[:, 1] - place[:, 2], place[:, 3] - place[:, 4]], -1)
    return 3600 * np.degrees(np.stack([east, north]) @ along)
