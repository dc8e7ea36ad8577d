"""Which bright systems a sample takes, and what each of them then stands for.

Also what a catalogue cannot give at all: `check_room`.
"""

from typing import NamedTuple

import numpy as np

from lensjax.catalogue import Catalogue
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering, System

CAP_BIN = 0.1  # width of the bins of theta_E that a cap speaks of [arcsec]


def bins(theta_E: np.ndarray) -> np.ndarray:
    """Bin of each Einstein radius [arcsec]."""
    return (np.asarray(theta_E) / CAP_BIN).astype(int)


class _Seen(NamedTuple):
    """Systems by the number of their proposal and their bin; (n,) each."""

    number: np.ndarray
    bin: np.ndarray


class Desk:
    """Admits systems in order: no more than `cap` a bin, and, if `once`, no lens twice
    in one rotation.
    """  # noqa: D205

    def __init__(self, cap: int, once: bool):
        self.cap, self.once = cap, once
        self.taken: set[tuple[int, int]] = set()
        self.count: dict[int, int] = {}
        self.full_since: dict[int, int] = {}  # number of the proposal that filled a bin
        self.candidates: list[_Seen] = []
        self.bright: list[_Seen] = []

    def with_room(self, systems: System) -> np.ndarray:
        """Which candidates are worth a look at their arcs: their bins are not full."""
        of_bin = bins(systems.sie.theta_E)
        self.candidates.append(_Seen(systems.number, of_bin))
        return np.array([b not in self.full_since for b in of_bin.tolist()], bool)

    def admit(self, systems: System) -> np.ndarray:
        """Which bright systems the sample takes."""
        of_bin = bins(systems.sie.theta_E)
        self.bright.append(_Seen(systems.number, of_bin))
        rows = zip(
            systems.number.tolist(),
            of_bin.tolist(),
            systems.lens_index.tolist(),
            systems.rotation.tolist(),
            strict=True,
        )
        return np.array([self._admit(*row) for row in rows], bool)

    def _admit(self, number: int, b: int, lens: int, rotation: int) -> bool:
        if b in self.full_since or (self.once and (lens, rotation) in self.taken):
            return False
        self.taken.add((lens, rotation))
        self.count[b] = self.count.get(b, 0) + 1
        if self.count[b] == self.cap:
            self.full_since[b] = number
        return True

    def stand_for(self, theta_E: np.ndarray, last: int) -> np.ndarray:
        """How many bright systems, of proposals up to `last`, each admitted one is for.

        Once a bin is full no more arcs are looked at in it; as many of its candidates
        are taken for bright as before.
        """
        candidates, bright = (
            _Seen(*map(np.concatenate, zip(*seen, strict=True)))
            for seen in (self.candidates, self.bright)
        )
        of_bin, answer = bins(theta_E), np.zeros(len(theta_E))
        for b in np.unique(of_bin):
            until = min(self.full_since.get(int(b), last), last)
            numbers = candidates.number[candidates.bin == b]
            came, looked_at = (numbers <= last).sum(), (numbers <= until).sum()
            seen = (bright.number[bright.bin == b] <= until).sum()
            admitted = (of_bin == b).sum()
            answer[of_bin == b] = came / looked_at * seen / admitted
        return answer


def check_room(
    size: int, catalogue: Catalogue, rendering: Rendering, criteria: Criteria
) -> None:
    """Raise ValueError for what the catalogue's cutouts or numbers cannot give."""
    room = (catalogue.lenses.image.shape[1] - rendering.survey.image_size) // 2
    if criteria.dither > room:
        raise ValueError(
            f"dither={criteria.dither} needs cutouts of at least "
            f"{rendering.survey.image_size + 2 * criteria.dither} pixels, these have "
            f"{catalogue.lenses.image.shape[1]}: lower dither or give larger cutouts"
        )
    most = len(catalogue.lenses.z) * (4 if criteria.rotate else 1)
    if criteria.once and size > most:
        raise ValueError(
            f"{len(catalogue.lenses.z):,} lens galaxies make no more than {most:,} "
            f"systems with none twice in one rotation, size is {size:,}: give more "
            "of them (n_lenses), lower size, or let a galaxy come twice (once)"
        )
