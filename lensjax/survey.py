"""What a survey's images are like: pixels, bands, zero points, seeing and noise."""

import difflib
import math
import os
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Survey(NamedTuple):
    """A survey's coadds in plain numbers and tuples: static under jit."""

    name: str
    bands: tuple[str, ...]  # EXTNAMEs, in the order of an image's last axis
    pixel_scale: float  # [arcsec]
    image_size: int  # side of the cutouts that networks see [pixel]
    zero_point: float  # AB magnitude of one count
    fwhm: tuple[float, ...]  # median seeing of each band [arcsec]
    sky_sigma: tuple[float, ...]  # sky noise of each band [counts per pixel]
    gain: tuple[float, ...]  # photo-electrons per count in the coadd of each band
    psf_oversampling: int = 1  # PSF pixels along a survey pixel; odd

    @property
    def detection(self) -> int:
        """Index of the band that shapes and arc peaks are measured in: i, or VIS."""
        return self.bands.index("I") if "I" in self.bands else len(self.bands) - 1

    @property
    def detection_band(self) -> str:
        """Its name, in lower case, as columns have it."""
        return self.bands[self.detection].lower()


HSC = Survey(
    name="HSC",
    bands=("G", "R", "I", "Z"),
    pixel_scale=0.168,
    image_size=64,
    zero_point=27.0,
    fwhm=(0.79, 0.75, 0.61, 0.68),
    sky_sigma=(0.038, 0.056, 0.080, 0.135),
    gain=(3000.0,) * 4,
)
"""HSC Wide (Aihara et al. 2019); noise agrees with its published depths to 0.1 mag.

The gain is rough, +-30 %: it matters in the lens' core, and for the noise of arcs.
"""

DES = Survey(
    name="DES",
    bands=("G", "R", "I", "Z"),
    pixel_scale=0.263,
    image_size=64,
    zero_point=30.0,
    fwhm=(1.12, 0.96, 0.88, 0.84),
    sky_sigma=(2.5, 3.6, 6.0, 10.9),
    gain=tuple(900 * 10 ** (0.4 * (zp - 30)) for zp in (26.58, 26.78, 26.75, 26.48)),
)
"""DES coadds.  Noise: medians of 30 cutouts of early-type galaxies, scatter 15 %.

Seeing, zero points of one electron a second and 10 exposures of 90 s: lenstronomy's
``ObservationConfig.DES``.
"""


def _coadd(exposure, zero_point, pixel_scale, zero_points, sky, read_variance=0.0):
    """Sky noise and gain of each band, from the exposure [s] and the sky [mag/arcsec2].

    `zero_points` are those of one electron a second.
    """
    sigma, gain = [], []
    for seconds, zp, mag in zip(exposure, zero_points, sky, strict=True):
        electrons = 10 ** (-0.4 * (mag - zp)) * pixel_scale**2 * seconds
        per_count = seconds * 10 ** (0.4 * (zp - zero_point))
        sigma.append(math.sqrt(electrons + read_variance) / per_count)
        gain.append(per_count)
    return {"sky_sigma": tuple(sigma), "gain": tuple(gain)}


LSST = Survey(
    name="LSST",
    bands=("G", "R", "I", "Z"),
    pixel_scale=0.2,
    image_size=64,
    zero_point=31.4,
    fwhm=(0.77, 0.73, 0.71, 0.69),
    **_coadd(
        exposure=tuple(15.0 * n for n in (200, 460, 460, 400)),
        zero_point=31.4,
        pixel_scale=0.2,
        zero_points=(28.30, 28.13, 27.79, 27.40),
        sky=(22.26, 21.2, 20.48, 19.6),
    ),
)
"""Rubin after ten years, in nJy; lenstronomy's ``ObservationConfig.LSST``."""

EUCLID = Survey(
    name="Euclid",
    bands=("VIS",),
    pixel_scale=0.1,
    image_size=108,
    zero_point=25.72,
    fwhm=(0.16,),
    **_coadd(
        exposure=(4 * 566.0,),
        zero_point=25.72,
        pixel_scale=0.1,
        zero_points=(25.72,),
        sky=(22.3,),
        read_variance=4 * 4.2**2,
    ),
    psf_oversampling=3,
)
"""Euclid's VIS, one count an electron a second (arXiv:2405.13493, 2405.13496).

Its pixels undersample the PSF, so PSFs come on pixels three times finer.
"""

HST = Survey(
    name="HST",
    bands=("F814W",),
    pixel_scale=0.05,
    image_size=161,
    zero_point=25.94,
    fwhm=(0.11,),
    **_coadd(
        exposure=(2000.0,),
        zero_point=25.94,
        pixel_scale=0.05,
        zero_points=(25.94,),
        sky=(21.6,),
        read_variance=4 * 5.0**2,
    ),
)
"""HST's ACS/WFC in F814W, one orbit in four exposures, counts an electron a second.

Zero point [AB], read noise and sky: ACS Instrument Handbook.  For fits of lenses: no
network here was trained for it.
"""

ALL = {survey.name.lower(): survey for survey in (HSC, LSST, DES, EUCLID, HST)}
SUFFIX = ".toml"  # of a file that describes a survey


def named(name: str) -> Survey:
    """The preset of that name, in any case; ValueError with the nearest otherwise."""
    if name.lower() not in ALL:
        known = ", ".join(survey.name for survey in ALL.values())
        like = difflib.SequenceMatcher(None, "", name.lower())
        ratio = {}
        for key in ALL:
            like.set_seq1(key)
            ratio[key] = like.ratio()
        near = max(ratio, key=ratio.get)  # of those that are as near the first
        hint = f": did you mean {ALL[near].name}?" if ratio[near] > 0.6 else ""
        raise ValueError(f"survey must be one of {known}, not {name!r}{hint}")
    return ALL[name.lower()]


def read(path: str | os.PathLike) -> Survey:
    """The survey that a TOML file describes, by the names of `Survey`'s fields.

    A number stands for one in each band.  `name`, `image_size` and `psf_oversampling`
    may be left out.  ValueError, which names the file and the field, for what is
    missing, unknown or impossible.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {reason}") from error
    values = {"name": path.stem, "image_size": 64} | given
    if unknown := sorted(set(values) - set(Survey._fields)):
        known = ", ".join(Survey._fields)
        raise ValueError(f"{path}: there is no {unknown[0]}: there are {known}")
    needed = [f for f in Survey._fields if f not in Survey._field_defaults]
    if missing := [f for f in needed if f not in values]:
        raise ValueError(f"{path}: {', '.join(missing)} missing: add them")
    bands = values["bands"]
    values["bands"] = tuple([bands] if isinstance(bands, str) else bands)
    for field in ("fwhm", "sky_sigma", "gain"):
        value = values[field]
        one = not isinstance(value, list)
        values[field] = tuple([value] * len(values["bands"]) if one else value)
        if len(values[field]) != len(values["bands"]):
            number = len(values["bands"])
            raise ValueError(f"{path}: {field}: give one number, or {number}")
    for field in ("pixel_scale", "fwhm", "sky_sigma", "gain", "image_size"):
        for number in np.atleast_1d(values[field]):
            if not isinstance(number, int | float | np.number) or not number > 0:
                raise ValueError(f"{path}: {field} must be above 0, not {number!r}")
    if not isinstance(values["zero_point"], int | float):
        raise ValueError(f"{path}: zero_point must be an AB magnitude")
    return Survey(**values)
