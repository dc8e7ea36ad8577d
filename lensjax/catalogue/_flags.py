"""What may be wrong with a cutout, by name; `quality` is where others find it."""

from collections.abc import Iterable

FATAL = {
    "missing_file": "the file does not exist, or vanished while others were read",
    "unreadable": "the file could not be opened or unpacked",
    "not_a_file": "a directory, pipe or device where a FITS file is expected",
    "too_large": "more than a cutout: above the limit on bytes, unpacked",
    "empty_file": "zero bytes",
    "html": "a web page, probably a login page, saved under a FITS name",
    "not_fits": "the file does not begin as FITS does",
    "truncated": "the file does not end where its headers say",
    "bad_header": "a header that is not FITS, or does not fit its data",
    "checksum": "CHECKSUM or DATASUM does not match the data",
    "missing_band": "a band of the survey is not in the file",
    "duplicate_band": "a band, or a plane beside it, stands in the file twice",
    "band_conflict": "EXTNAME and FILTER name different bands",
    "band_shape": "bands of different shape, or a plane unlike its band",
    "band_grid": "bands turned against each other, or one without a WCS",
    "cube": "a band that is not a plane",
    "pixel_scale": "pixel scale or WCS missing, unusable, or not the survey's",
    "zero_point": "a MAGZERO card that is no magnitude",
    "too_small": "fewer pixels than the network looks at",
    "nan_band": "a band without a finite pixel",
    "nan_pixel": "NaN or infinite pixels",
    "zero_band": "a band that is zero everywhere",
    "constant_band": "a band with one value everywhere",
    "masked": "too little data in a band, by its pixels, mask or noise: over 20 % lost",
    "stripe": "rows or columns without data, as at a survey's edge",
    "blank_patch": "a patch of equal pixels: no data",
    "negative_sky": "the sky lies far below zero",
    "high_sky": "the sky lies far above zero: not subtracted",
    "wrong_units": "noise or colours do not fit the zero point: another unit",
    "saturated": "a saturated star: clipped, or too bright beside the lens",
    "wild_pixel": "pixels that no light makes: far below the sky, or alone far above",
    "placeholder": "one value here and there, in place of data",
    "no_galaxy": "no galaxy in the image",
    "off_centre": "no galaxy within 1 arcsec of the centre",
    "star": "what is at the centre is as compact as a star",
    "misaligned": "bands shifted against each other, by what they show",
    "other_place": "bands, or a PSF, of another place on the sky",
    "missing_psf": "no PSF for a band of the survey",
    "bad_psf": "a PSF that is none: NaN, no flux, even, off centre, another scale",
}
"""Flags with which no prediction is given."""

WARNING = {
    "no_zero_point": "no MAGZERO card: the survey's zero point is assumed",
    "rescaled": "another zero point, converted exactly",
    "orientation": "WCS rotated or mirrored: ex, ey, x, y are along the pixel axes",
    "thin_edge": "one or two outermost rows or columns without data",
    "shifted_band": "bands shifted by part of a pixel against each other, by their WCS",
    "decentred": "the galaxy is off the centre, where a network has learnt it to be",
    "doubtful_band": "one band's sky, noise or colour is none of a good image",
    "aligned": "bands flipped, turned or cut to one grid of pixels, by their WCS",
    "no_wcs": "no WCS, or one without a position: all bands are taken for aligned",
    "small_cutout": "its corners hold lens light: the background comes out too high",
    "no_mask": "the mask is missing or does not name its bits, and is not used",
    "suspect_pixels": "many pixels that the archive's mask calls doubtful",
    "no_variance": "the variance plane is missing: no pixel is left out for its noise",
    "bad_variance": "pixels whose variance is zero, negative or not finite",
    "psf_sum": "a PSF whose sum is not 1, normalised",
}
"""Flags that come with a prediction."""


def is_fatal(flags: Iterable[str]) -> bool:
    """Whether any of the flags forbids an image; one that is not known does."""
    return any(flag not in WARNING for flag in flags)


def note(flags: dict[str, str], flag: str, text: str) -> None:
    """Add to what a flag says."""
    flags[flag] = f"{flags[flag]}; {text}" if flag in flags else text
