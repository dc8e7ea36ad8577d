"""Bands on one grid of pixels, exactly: flips, quarter turns and whole pixels, no more.

What a WCS says is taken for true.  Anything between quarter turns, and a band without a
WCS beside others that have one, is refused: pixels would have to be resampled, or it
cannot be known how they lie.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lensjax.catalogue import wcs as _wcs
from lensjax.catalogue._fits_files import CutoutError
from lensjax.catalogue._flags import note
from lensjax.catalogue.wcs import Grid

SHIFT = 0.1  # [pixel] between bands that is none
BEND = 0.5  # [pixel] that a band may leave the grid by within the image
TURN = 0.02  # between the slopes of two grids and those of a quarter turn

Turn = tuple[tuple[int, int], tuple[int, int]]
"""Matrix from steps (x, y) in a turned plane to those in the plane as it is stored."""

SAME: Turn = ((1, 0), (0, 1))


class Place(NamedTuple):
    """Where a band lies on another one's grid."""

    turn: Turn
    dx: float  # the other's middle on the turned band, less that middle [pixel]
    dy: float
    bend: float  # by so much it leaves the grid, up to where it was looked at [pixel]


def turn(grid: Grid | None, reference: Grid | None) -> Turn | None:
    """How a plane is brought into the reference's orientation; None: by no such turn.

    Of two planes of one place.  A plane without a WCS is taken as it is.
    """
    if grid is None or reference is None or grid is reference:
        return SAME
    return _nearest(np.linalg.solve(grid.jacobian, reference.jacobian))


def turned(plane: np.ndarray, turn: Turn) -> np.ndarray:
    """The plane (ny, nx), turned; contiguous, and a copy only if it has to be."""
    (a, b), (c, d) = turn
    plane = plane[::d, ::a] if a else plane.T[::b, ::c]
    return np.ascontiguousarray(plane)


def reference(grids: Mapping[str, Grid], first: str) -> str:
    """The band whose grid the others are brought to.

    Its orientation is the common one if any band has that, else that of most bands; its
    pixels are those of most bands, and in doubt those of `first`.
    """

    def rank(name: str) -> tuple:
        alike = sum(turn(grid, grids[name]) == SAME for grid in grids.values())
        same = sum(grid is grids[name] for grid in grids.values())
        common = not _wcs.orientation(grids[name])
        return common, alike, same, name == first

    if all(grid is grids[first] for grid in grids.values()):
        return first
    return max(grids, key=rank)


def known(grids: Mapping[str, Grid | None]) -> dict[str, Grid]:
    """The bands' grids, or none at all; CutoutError where just some bands have one."""
    have = {name: grid for name, grid in grids.items() if grid is not None}
    lacking = [name for name in grids if name not in have]
    if have and lacking:
        text = f"band {', '.join(lacking)} has no WCS, but {', '.join(have)} has"
        raise CutoutError(
            "band_grid",
            f"{text}: whether they share pixels cannot be known; write the WCS into "
            "the headers of all bands, or of none",
        )
    if len({grid.lacks for grid in have.values()}) > 1:
        name = next(name for name, grid in have.items() if grid.lacks)
        text = f"the WCS of band {name} lacks {have[name].lacks}, but not all do"
        raise CutoutError("band_grid", f"{text}: complete it")
    return have


def place(
    name: str,
    grid: Grid,
    other: str,
    reference: Grid,
    reach: tuple[float, float] | None = None,
) -> Place:
    """Where band `name` lies on the grid of band `other`, the reference.

    reach: (y, x) pixels about the reference's middle that count; all without.
    CutoutError where the band shows another place, or is turned by no quarter turn.
    """
    if grid is reference:
        return Place(SAME, 0.0, 0.0, 0.0)
    ny, nx = reference.shape
    ry, rx = np.divide(reference.shape, 2) if reach is None else reach
    sy, sx = np.mgrid[-1:2, -1:2].reshape(2, -1)
    x, y = (nx - 1) / 2 + sx * rx, (ny - 1) / 2 + sy * ry
    there = np.array(_wcs.to_pixels(grid.wcs, *_wcs.to_sky(reference.wcs, x, y)))
    middle, size = there[:, 4], np.array(grid.shape[::-1])
    away = np.abs(middle - (size - 1) / 2)
    # both ways round: a turned plane may lie along the other axis
    if not (away < (size + 2 * max(rx, ry)) / 2).all() or not np.isfinite(there).all():
        text = f"{name} shows another place than {other}"
        raise CutoutError("other_place", f"{text}: see which bands go together")
    slopes = np.stack(
        [
            (there[:, 5] - there[:, 3]) / (2 * rx),
            (there[:, 7] - there[:, 1]) / (2 * ry),
        ],
        -1,
    )
    how = _nearest(slopes)
    remedy = f"resample it to the pixels of {other}"
    if how is None:
        text = f"band {name} is turned or sheared against {other}, by no quarter turn"
        raise CutoutError("band_grid", f"{text}: {remedy}")
    straight = middle[:, None] + np.array(how) @ [sx * rx, sy * ry]
    bend = float(np.abs(there - straight).max())
    if bend > BEND:
        text = f"band {name} leaves the pixels of {other} by up to {bend:.1f}"
        raise CutoutError("band_grid", f"{text}: {remedy}")
    after = size if how[0][0] else size[::-1]
    dx, dy = np.transpose(how) @ (middle - (size - 1) / 2) + (after - 1) / 2
    return Place(how, float(dx) - (nx - 1) / 2, float(dy) - (ny - 1) / 2, bend)


def whole(
    name: str,
    dx: float,
    dy: float,
    bend: float,
    other: str,
    flags: dict[str, str],
) -> tuple[int, int]:
    """The shift (x, y) in whole pixels; what is left is flagged from `SHIFT` on."""
    x, y = round(dx), round(dy)
    if max(abs(dx - x), abs(dy - y), bend) > SHIFT:
        text = f"{name} by ({dx - x:.2f}, {dy - y:.2f}) pixels against {other}"
        text += f", {bend:.2f} more at the edge" if bend > SHIFT else ""
        note(flags, "shifted_band", f"{text}: resample it to the same pixels")
    return x, y


def how(turn: Turn) -> str:
    """The turn in words."""
    return _WORDS[turn]


_WORDS: dict[Turn, str] = {
    SAME: "as it is",
    ((-1, 0), (0, 1)): "mirrored left to right",
    ((1, 0), (0, -1)): "turned upside down",
    ((-1, 0), (0, -1)): "turned by 180 deg",
    ((0, 1), (1, 0)): "transposed",
    ((0, -1), (-1, 0)): "transposed and turned by 180 deg",
    ((0, 1), (-1, 0)): "turned by 90 deg",
    ((0, -1), (1, 0)): "turned by 90 deg",
}


def _nearest(slopes: np.ndarray) -> Turn | None:
    """The quarter turn or flip with these slopes, if there is one."""
    turn = np.rint(slopes)
    if np.abs(slopes - turn).max() > TURN or abs(round(np.linalg.det(turn))) != 1:
        return None
    return tuple(tuple(int(v) for v in row) for row in turn)
