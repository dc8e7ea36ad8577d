"""One galaxy out of an image: its segment among noise and neighbours, on its own.

Whatever stays in a stamp beside the galaxy, noise or neighbour, would be lensed as if
it were the source.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

SMOOTHING = 1.5  # sigma of the Gaussian that images are detected in [pixel]
AVERAGING = 2 * np.sqrt(np.pi) * SMOOTHING  # by so much it lowers white noise
LEAST_PIXELS = 9
LEAST_SNR = 5.0  # of a segment's flux: clumps of noise are below
PROMINENCE = 5.0  # of a neighbour's peak over the saddle between [noise]
CONTRAST = 0.03  # its light above the saddle, over that of the whole


class Sky(NamedTuple):
    """What an image is like where nothing is."""

    level: float
    noise: float  # of one pixel, one sigma


def smooth(image: np.ndarray) -> np.ndarray:
    """`image` (ny, nx) blurred by `SMOOTHING`, zero beyond its edges."""
    return ndimage.gaussian_filter(image, SMOOTHING, mode="constant")


def sky(pixels: np.ndarray) -> Sky:
    """Median and robust RMS of `pixels`, any shape, clipped at three sigma."""
    kept = pixels.ravel()
    for _ in range(5):
        level = np.median(kept)
        noise = 1.4826 * np.median(np.abs(kept - level))
        inside = np.abs(kept - level) <= 3 * noise
        if inside.all():
            break
        kept = kept[inside]
    return Sky(float(level), float(noise))


def segments(blurred: np.ndarray, noise: float, sigmas: float) -> np.ndarray:
    """Labels of what lies `sigmas` times `noise` above zero in `blurred`; 0 between.

    Specks of fewer than `LEAST_PIXELS` and clumps with a signal to noise below
    `LEAST_SNR`, which noise makes everywhere, are dropped.  `noise` is that of a pixel
    of `blurred`.
    """
    # here: a second to import, which few commands need
    from photutils.segmentation import detect_sources
    from photutils.utils.exceptions import NoDetectionsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = detect_sources(blurred, sigmas * noise, LEAST_PIXELS)
    if found is None:
        return np.zeros(blurred.shape, int)
    light = np.bincount(found.data.ravel(), blurred.ravel())
    area = np.bincount(found.data.ravel())
    real = light >= LEAST_SNR * noise * AVERAGING * np.sqrt(area)
    return np.where(real[found.data], found.data, 0)


def own(labels: np.ndarray, blurred: np.ndarray, at: ArrayLike, reach: float) -> int:
    """Label of the segment at the place `at` (row, column), 0 where there is none.

    Beside all segments, that of the nearest peak within `reach` pixels.
    """
    at = np.asarray(at, float)
    row, column = np.rint(at).astype(int)
    if 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]:
        if labels[row, column]:
            return int(labels[row, column])
    k = int(np.ceil(reach))
    rows, columns = (slice(max(m - k, 0), max(m + k + 1, 0)) for m in (row, column))
    best, found = reach, 0
    for label in np.unique(labels[rows, columns]):
        away = distance(peak(blurred, labels == label), at)
        if label and away <= best:
            best, found = away, int(label)
    return found


def distance(here: ArrayLike, there: ArrayLike) -> float:
    """Pixels between two places (row, column)."""
    return float(np.hypot(*np.subtract(here, there)))


def peak(blurred: np.ndarray, segment: np.ndarray) -> tuple[int, int]:
    """Row and column of the brightest pixel of `segment` (bool)."""
    where = np.flatnonzero(segment)
    place = where[blurred.ravel()[where].argmax()]
    row, column = np.unravel_index(place, segment.shape)
    return int(row), int(column)


def deblend(
    labels: np.ndarray, blurred: np.ndarray, label: int, noise: float
) -> np.ndarray:
    """`labels` with the segment `label` cut into the galaxies that it holds.

    Pixels are taken from the brightest down, and each joins the basin that it touches.
    Two basins that meet are two galaxies if the fainter one's peak stands `PROMINENCE`
    times `noise`, of a pixel of `blurred`, above the saddle between, and its light
    above the saddle is `CONTRAST` of the segment's; else they are one.  A noisy galaxy
    stays whole so, where photutils' `deblend_sources` cuts it into pieces.
    """
    segment = np.pad(labels == label, 1)
    values = np.pad(blurred, 1).ravel()
    where = np.flatnonzero(segment)
    order = where[np.argsort(-values[where], kind="stable")]
    total, width = values[where].sum(), segment.shape[1]
    steps = [r * width + c for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]

    joined: list[int] = []  # by basin: the one it went into, or itself
    height: list[float] = []  # of its peak
    light: list[float] = []
    area: list[int] = []
    basin: dict[int, int] = {}  # by pixel

    def last(b):
        while joined[b] != b:
            b = joined[b]
        return b

    for place, value in zip(order.tolist(), values[order].tolist(), strict=True):
        touched = (basin.get(place + step) for step in steps)
        met = sorted({last(b) for b in touched if b is not None})
        if not met:
            met = [len(joined)]
            joined.append(met[0])
            height.append(value)
            light.append(0.0)
            area.append(0)
        first, *others = met  # the first has the highest peak
        for b in others:
            above = light[b] - area[b] * value
            prominent = height[b] - value >= PROMINENCE * noise
            if not (prominent and above >= CONTRAST * total):
                joined[b] = first
                light[first] += light[b]
                area[first] += area[b]
        basin[place] = first
        light[first] += value
        area[first] += 1

    ends = np.array([last(basin[place]) for place in where.tolist()])
    parted = np.pad(labels, 1).ravel()
    for number, b in enumerate(np.unique(ends)[1:], start=1):
        parted[where[ends == b]] = labels.max() + number
    return parted.reshape(segment.shape)[1:-1, 1:-1]


def centred(image: np.ndarray, segment: np.ndarray, middle: ArrayLike) -> np.ndarray:
    """`image` (ny, nx, ...) in the smallest odd square about `middle` (row, column).

    It is zero outside of `segment` (bool).
    """
    rows, columns = np.nonzero(segment)
    row, column = middle
    reach = int(max(np.abs(rows - row).max(), np.abs(columns - column).max()))
    square = np.zeros((2 * reach + 1, 2 * reach + 1, *image.shape[2:]), image.dtype)
    square[rows - row + reach, columns - column + reach] = image[rows, columns]
    return square


def isolate(stamp: np.ndarray, noise: float) -> np.ndarray:
    """The central galaxy of a stamp in a square (m, m) of its own, m odd.

    Pixels outside its segment are zero.  The middle is its brightest pixel, as in the
    paper.  `noise` is the stamp's RMS; not finite, it is taken from the stamp.
    """
    if not np.isfinite(stamp).all():
        raise ValueError("it has pixels that are not finite")
    blurred = smooth(stamp)
    if not noise > 0:
        noise = sky(stamp).noise
    labels = segments(blurred, noise / AVERAGING, 1.5)
    if not labels.any():
        raise ValueError("no galaxy stands out of its noise")
    middle = np.array(stamp.shape) // 2
    label = own(labels, blurred, middle, min(8, min(stamp.shape) / 8))
    if not label:
        raise ValueError("no galaxy stands at its middle")
    segment = labels == label
    return centred(stamp, segment, peak(blurred, segment))
