"""How images are scaled for a network: the paper's options, and our own."""

import jax.numpy as jnp
from jax import Array

SCALINGS = (
    "none",
    "asinh",
    "standardize",
    "r_band",
    "per_band",
    "maximum",
    "mean_peak",
)
_R_BAND = 1  # of griz
_BOOST = 10.0
_FLOOR = 1e-6  # [counts]: an image without light stays finite, any other is untouched


def scaled(images: Array, scaling: str) -> Array:
    """Images (B, n, n, band) as a network sees them; the same shape.

    none: counts at the survey's zero point, as the paper's final networks.
    asinh: arcsinh(counts), linear below one count, logarithmic in the lens's core.

    The five options of Schuldt et al. (2021, sect. 3), each for one system at a time:
    r_band: r ten times as bright (needs g, r, i, z).
    per_band: each band less its mean, over its standard deviation.
    maximum: each band over its largest value.
    mean_peak: all bands over the mean of their largest values.
    standardize: all bands less their mean, over their standard deviation (eq. 7-9).
    """
    pixels, everything = (1, 2), (1, 2, 3)
    if scaling == "none":
        return images
    if scaling == "asinh":
        return jnp.arcsinh(images)
    if scaling == "r_band":
        if images.shape[-1] <= _R_BAND:
            raise ValueError("scaling r_band needs a survey with an r band")
        return images.at[..., _R_BAND].multiply(_BOOST)
    if scaling in ("per_band", "standardize"):
        axes = pixels if scaling == "per_band" else everything
        mean = images.mean(axes, keepdims=True)
        # eq. 9 as printed divides by one band's pixels and not by all: twice the
        # deviation for griz, a constant that changes nothing but the scale
        deviation = images.std(axes, keepdims=True, ddof=1)
        return (images - mean) / jnp.maximum(deviation, _FLOOR)
    if scaling in ("maximum", "mean_peak"):
        peak = images.max(pixels, keepdims=True)
        if scaling == "mean_peak":
            peak = peak.mean(-1, keepdims=True)
        return images / jnp.maximum(peak, _FLOOR)
    raise ValueError(f"scaling is {', '.join(SCALINGS)}, not {scaling!r}")
