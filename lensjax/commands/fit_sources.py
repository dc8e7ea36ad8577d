"""Sources on pixels beside a table of fits: one FITS file a lens."""

from collections.abc import Sequence
from pathlib import Path

from astropy.io import fits

from lensjax.commands.fit_parts import file_name
from lensjax.inference import pixel_source
from lensjax.inference.candidate import Candidate
from lensjax.inference.lens_model import Fit
from lensjax.inference.pixel_source import PixelSource
from lensjax.inference.problem import Settings
from lensjax.storage import atomic


def folder(out: Path) -> Path:
    """Where the sources of a table lie."""
    return out.with_name(f"{out.stem}_sources")


def reconstruct(found: Candidate, fit: Fit, settings: Settings) -> list[PixelSource]:
    """The source in each band."""
    return [
        pixel_source.reconstruct(found.observation, fit, settings, band)
        for band in range(len(found.survey.bands))
    ]


def write(
    sources: Path, name: str, found: Candidate, each: Sequence[PixelSource]
) -> None:
    """Write SOURCE_* and ERROR_* of each band [counts per pixel], and where they are.

    A WCS of arcsec from the middle of the image along its pixel axes.
    """
    sources.mkdir(exist_ok=True)
    hdus = [fits.PrimaryHDU()]
    for band, source in zip(found.survey.bands, each, strict=True):
        for what, plane in (("SOURCE", source.image), ("ERROR", source.error)):
            hdu = fits.ImageHDU(plane.astype("f4"), name=f"{what}_{band}")
            middle = (source.image.shape[0] + 1) / 2
            hdu.header["PIXSCALE"] = (source.pixel_scale, "arcsec")
            hdu.header["MAGZERO"] = found.survey.zero_point
            hdu.header["STRENGTH"] = (source.strength, "of the regularisation")
            hdu.header["LOGEVID"] = (
                source.log_evidence,
                "of the mass, up to a constant",
            )
            for axis, place in ((1, source.x), (2, source.y)):
                hdu.header[f"CRPIX{axis}"] = middle
                hdu.header[f"CRVAL{axis}"] = place
                hdu.header[f"CDELT{axis}"] = source.pixel_scale
                hdu.header[f"CUNIT{axis}"] = "arcsec"
            hdus.append(hdu)
    path = sources / f"{file_name(name)}.fits"
    atomic.write(path, lambda file: fits.HDUList(hdus).writeto(file))
