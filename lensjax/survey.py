"""What a survey's images are like: pixels, bands, zero points, seeing and noise."""

from typing import NamedTuple


class Survey(NamedTuple):
    """A survey's coadds in plain numbers and tuples: static under jit."""

    name: str
    bands: tuple[str, ...]  # EXTNAMEs, in the order of an image's last axis
    pixel_scale: float  # [arcsec]
    image_size: int  # side of the cutouts that networks see [pixel]
    zero_point: float  # AB magnitude of one count
    fwhm: tuple[float, ...]  # median seeing of each band [arcsec]
    sky_sigma: tuple[float, ...]  # sky noise of each band [counts per pixel]
    gain: float  # photo-electrons per count in the coadd

    @property
    def detection(self) -> int:
        """Index of the band that shapes and arc peaks are measured in: i."""
        return self.bands.index("I")


HSC = Survey(
    name="HSC",
    bands=("G", "R", "I", "Z"),
    pixel_scale=0.168,
    image_size=64,
    zero_point=27.0,
    fwhm=(0.79, 0.75, 0.61, 0.68),
    sky_sigma=(0.038, 0.056, 0.080, 0.135),
    gain=3000.0,
)
"""HSC Wide (Aihara et al. 2019); noise agrees with its published depths to 0.1 mag.

The gain is rough, +-30 %: it matters in the lens' core alone.
"""
