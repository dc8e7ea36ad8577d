"""Small archives in the layout that HSC's cutout service and PSF picker give.

`build` writes the files of a few galaxies and returns where they are on the sky;
`spectra` writes the table of SDSS spectra that goes with them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Table

from lensjax.survey import HSC

FLUXMAG0 = 63095734448.0194  # zero point 27.0
SCALE = 0.168  # [arcsec]
TRACT = (150.1, 2.3)  # where the coadd's projection touches the sky [deg]
COLOURS = (2.3, 0.75, 0.0, -0.3)  # magnitude less that in i, of a red galaxy at 0.4
BITS = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "BRIGHT_OBJECT": 9,
    "CROSSTALK": 10,
    "NOT_DEBLENDED": 11,
    "UNMASKEDNAN": 12,
    "CLIPPED": 13,
    "REJECTED": 14,
    "SENSOR_EDGE": 15,
    "INEXACT_PSF": 16,
}
"""Bits of one release; other files number them otherwise."""


TURNS = {  # how a plane may be stored, and its steps (x, y) in the plane as it was
    "as it is": (lambda a: a, ((1, 0), (0, 1))),
    "upside down": (lambda a: a[::-1], ((1, 0), (0, -1))),
    "mirrored": (lambda a: a[:, ::-1], ((-1, 0), (0, 1))),
    "half a turn": (lambda a: a[::-1, ::-1], ((-1, 0), (0, -1))),
    "transposed": (lambda a: a.T, ((0, 1), (1, 0))),
    "a quarter left": (lambda a: a.T[::-1], ((0, -1), (1, 0))),
    "a quarter right": (lambda a: a.T[:, ::-1], ((0, 1), (-1, 0))),
    "transposed back": (lambda a: a.T[::-1, ::-1], ((0, -1), (-1, 0))),
}


class Target(NamedTuple):
    """One object that was ordered."""

    line: int  # of the upload list, the heading being line 1: its first file's number
    ra: float  # [deg]
    dec: float


def build(
    folder,
    n=2,
    seed=0,
    *,
    one_line=False,
    filters=("HSC-G", "HSC-R", "HSC-I", "HSC-Z"),
    rerun="pdr2_wide",
    separate=True,
    **variations,
):
    """Archive of n galaxies in `folder`; returns a Target each, in order.

    A line of the list orders one band, as the service wants it, so that a galaxy's
    files have consecutive numbers; with `one_line` they share one, as where each band
    had a list and all were unpacked together.  PSFs lie in psf/, or, if not `separate`,
    beside the arch-* folder.  `variations` go to `cutout` and `kernel`.
    """
    rng = np.random.default_rng(seed)
    folder = Path(folder)
    cutouts = folder / (
        "cutout/arch-230401-120000" if separate else "arch-230401-120000"
    )
    psfs = folder / "psf" if separate else folder
    for path in (cutouts, psfs):
        path.mkdir(parents=True, exist_ok=True)
    targets = []
    for k in range(n):
        line = 2 + (k if one_line else k * len(filters))
        ra, dec = 149.95 + 0.031 * k, 2.2 + 0.017 * k
        images, kernels, ra, dec = galaxy(rng, ra, dec, variations.get("side", 238))
        targets.append(Target(line, ra, dec))
        for j, name in enumerate(filters):
            band = "GRIZ".index(name[4])
            number = line if one_line else line + j
            path = cutouts / f"{number}-cutout-{name}-9813-{rerun}.fits"
            cutout(images[band], band, ra, dec, **variations).writeto(path)
            place = f"{ra:.5f}-{dec:.5f}"
            path = psfs / f"{number}-psf-calexp-{rerun}-{name}-9813-4,5-{place}.fits"
            fits.PrimaryHDU(kernels[band]).writeto(path)
    return targets


def galaxy(rng, ra, dec, side=238):
    """(band, side, side) counts, (band, 43, 43) PSFs and the centre's true position.

    An elliptical of i = 17.8 to 19.3 within two pixels of the middle, a few small
    neighbours farther out, HSC's seeing and sky noise.  The service cuts at whole
    pixels, so the middle lies up to half a pixel off what was ordered.
    """
    header = wcs(ra, dec, side)
    mag, q, angle = rng.uniform(17.8, 19.3), rng.uniform(0.55, 0.9), rng.uniform(0, 3)
    x0, y0 = rng.uniform(-2, 2, 2)
    scene = 10 ** (-0.4 * (mag - 27)) * profile(side, 5.5, q, angle, x0, y0, 0.6)
    for _ in range(4):
        r, t = rng.uniform(0.15, 0.45) * side, rng.uniform(0, 2 * np.pi)
        place = (rng.uniform(0.5, 1), 0.0, r * np.cos(t), r * np.sin(t))
        flux = 10 ** (-0.4 * (rng.uniform(22, 24) - 27))
        scene += flux * profile(side, 2.0, *place, 1.0)
    images, kernels = [], []
    for band, colour in enumerate(COLOURS):
        kernel = star(43, HSC.fwhm[band] / SCALE)
        framed = np.zeros((side, side))
        framed[:43, :43] = kernel
        framed = np.roll(framed, (-21, -21), (0, 1))
        seen = np.fft.irfft2(
            np.fft.rfft2(scene * 10 ** (-0.4 * colour)) * np.fft.rfft2(framed),
            s=scene.shape,
        )
        noise = HSC.sky_sigma[band] * rng.standard_normal(scene.shape)
        images.append((seen + noise).astype("f4"))
        kernels.append(kernel)
    return np.stack(images), np.stack(kernels), header["TRUE_RA"], header["TRUE_DEC"]


def profile(side, radius, q, angle, x, y, power):
    """Ellipse of light exp(-(r / radius)^power), unit flux; lengths in pixels."""
    axis = np.arange(side) - (side - 1) / 2
    dx, dy = axis[None, :] - x, axis[:, None] - y
    u = np.cos(angle) * dx + np.sin(angle) * dy
    v = np.cos(angle) * dy - np.sin(angle) * dx
    light = np.exp(-((np.sqrt(q * u**2 + v**2 / q) / radius) ** power))
    return light / light.sum()


def star(size, fwhm, x=0.0, y=0.0):
    """Moffat kernel of unit sum, beta = 3; lengths in pixels."""
    axis = np.arange(size) - size // 2
    r2 = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2
    kernel = (1 + r2 / ((fwhm / 2) ** 2 / (2 ** (1 / 3) - 1))) ** -3.0
    return kernel / kernel.sum()


def wcs(ra, dec, side, dx=0, dy=0):
    """Cards of a tangential projection, cut at whole pixels about (ra, dec).

    dx, dy shift the cutout along the pixel grid.  TRUE_RA and TRUE_DEC, no cards, are
    the middle's position by the gnomonic formulae.
    """
    a0, d0, a, d = np.deg2rad([*TRACT, ra, dec])
    cos = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a - a0)
    xi = np.cos(d) * np.sin(a - a0) / cos
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a - a0)) / cos
    step = np.deg2rad(SCALE / 3600)
    # first pixel of the cutout on the tract's grid, 0 at its middle
    left = round(-xi / step - (side - 1) / 2) + dx
    low = round(eta / step - (side - 1) / 2) + dy
    xi, eta = -step * (left + (side - 1) / 2), step * (low + (side - 1) / 2)
    rho = np.hypot(xi, eta)
    c = np.arctan(rho)
    d = np.arcsin(np.cos(c) * np.sin(d0) + eta * np.sin(c) * np.cos(d0) / rho)
    a = a0 + np.arctan2(
        xi * np.sin(c), rho * np.cos(d0) * np.cos(c) - eta * np.sin(d0) * np.sin(c)
    )
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": TRACT[0],
        "CRVAL2": TRACT[1],
        "CRPIX1": 1.0 - left,
        "CRPIX2": 1.0 - low,
        "CD1_1": -SCALE / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": SCALE / 3600,
        "LTV1": float(-left),
        "LTV2": float(-low),
        "TRUE_RA": float(np.rad2deg(a)),
        "TRUE_DEC": float(np.rad2deg(d)),
    }


def cutout(image, band, ra, dec, bits=BITS, planes="IMV", named=True, **_):
    """HDUs of one band's cutout, as the service gives them."""
    cards = wcs(ra, dec, image.shape[0])
    cards = {k: v for k, v in cards.items() if not k.startswith("TRUE_")}
    mask = np.zeros(image.shape, "i4")
    mask[image > 5 * HSC.sky_sigma[band]] |= 1 << bits["DETECTED"]
    variance = np.full(image.shape, HSC.sky_sigma[band] ** 2, "f4")
    hdus = [fits.PrimaryHDU()]
    hdus[0].header["FLUXMAG0"] = FLUXMAG0
    hdus[0].header["FILTER"] = "GRIZ"[band].lower()
    for letter, plane in zip("IMV", (image, mask, variance), strict=True):
        if letter not in planes:
            continue
        hdu = fits.ImageHDU(plane, fits.Header(cards))
        if letter == "M":
            for name, bit in bits.items():
                key = f"MP_{name}"
                hdu.header[key if len(key) < 9 else f"HIERARCH {key}"] = bit
        if named:
            kind = {"I": "IMAGE", "M": "MASK", "V": "VARIANCE"}[letter]
            hdu.header["EXTTYPE"] = hdu.header["EXTNAME"] = kind
        hdus.append(hdu)
    return fits.HDUList(hdus)


def stored(hdu, how):
    """The HDU with its plane stored in another way, and a WCS that says so, if any."""
    change, matrix = TURNS[how]
    header, (ny, nx) = hdu.header.copy(), hdu.data.shape
    after = np.ascontiguousarray(change(hdu.data))
    if "CD1_1" in header:
        # a step here is matrix @ step there; the middle stays where it is
        m = np.array(matrix)
        cd = np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]) @ m
        off = [header["CRPIX1"] - (nx + 1) / 2, header["CRPIX2"] - (ny + 1) / 2]
        off = m.T @ off + (np.array(after.shape[::-1]) + 1) / 2
        for i in (1, 2):
            header[f"CRPIX{i}"] = float(off[i - 1])
            for j in (1, 2):
                header[f"CD{i}_{j}"] = float(cd[i - 1, j - 1])
    kind = fits.PrimaryHDU if isinstance(hdu, fits.PrimaryHDU) else fits.ImageHDU
    return kind(after, header)


def spectra(path, targets, seed=0, **columns):
    """Table of SDSS spectra within half an arcsec of the targets; returns its path."""
    rng = np.random.default_rng(seed)
    n = len(targets)
    table = Table(
        {
            "specObjID": [str(4055190764468404224 + 4096 * k) for k in range(n)],
            "ra": [t.ra + 1e-4 * rng.uniform(-1, 1) for t in targets],
            "dec": [t.dec + 1e-4 * rng.uniform(-1, 1) for t in targets],
            "z": rng.uniform(0.3, 0.6, n),
            "zErr": np.full(n, 1e-4),
            "zWarning": np.zeros(n, int),
            "velDisp": rng.uniform(180, 320, n),
            "velDispErr": np.full(n, 15.0),
        }
        | columns
    )
    table.write(path, overwrite=True)
    return Path(path)
