"""Where training finds what it reads: all in memory, or lens stamps from disk.

A training program reads rows of a sample and the galaxies that they name.  Where the
galaxies do not fit into memory, a loader hands it, for some steps at a time, just those
that these steps will ask for, and reads ahead while the steps are computed.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.catalogue import Catalogue, Lenses
from lensjax.learning.dataset import BLOCK, Data
from lensjax.learning.members import Member, order
from lensjax.mocks.system import System


class InMemory:
    """Everything is there already."""

    dispatch: int | None = None  # as many steps at a time as one likes

    def __init__(self, data: Data):
        self.data = data
        self.renders = data.kept is None  # within the step

    def training(self, epoch: int, first: int, last: int) -> Data:
        """What steps `first` to `last` of an epoch read."""
        return self.data

    def validation(self, first: int, last: int) -> Data:
        """What some blocks of the held-out rows read."""
        return self.data

    def rows(self, rows: np.ndarray) -> Data:
        """What these rows read."""
        return self.data


class FromDisk:
    """Stamps of lens galaxies and their PSFs are read when they are due.

    The data of every dispatch has the same shapes, so that programs are compiled once;
    `dispatch` steps of `per_step` systems are the most that one asks for.
    """

    renders = True  # within the step

    def __init__(
        self,
        systems: System,
        catalogue: Catalogue,
        members: Member,
        batch_size: int,
        dispatch: int,
        steps: int,
        validates: bool = True,
    ):
        self.systems, self.catalogue, self.members = systems, catalogue, members
        self.batch_size, self.dispatch = batch_size, dispatch
        self.steps, self.epoch, self.validates = steps, 0, validates
        self.blocks = -(-members.fold.validation.shape[1] // BLOCK)
        per_member = dispatch * max(batch_size, BLOCK)
        self.room = len(members.seed) * (per_member + 1)  # the last rows are padding
        self.order_of = jax.jit(jax.vmap(order, (0, None)))
        self.order: tuple[int, np.ndarray] | None = None
        self.thread = ThreadPoolExecutor(1)
        self.ahead: tuple[tuple, Future] | None = None

    def training(self, epoch: int, first: int, last: int) -> Data:
        """What steps `first` to `last` of an epoch read."""
        self.epoch = epoch
        data = self._due(("training", epoch, first, last))
        if last < self.steps:
            to = min(last + self.dispatch, self.steps)
            self._read_ahead(("training", epoch, last, to))
        elif self.validates:
            self._read_ahead(("validation", 0, min(self.dispatch, self.blocks)))
        else:
            self._read_next_epoch()
        return data

    def validation(self, first: int, last: int) -> Data:
        """What some blocks of the held-out rows read."""
        data = self._due(("validation", first, last))
        if last < self.blocks:
            to = min(last + self.dispatch, self.blocks)
            self._read_ahead(("validation", last, to))
        else:
            self._read_next_epoch()
        return data

    def _read_next_epoch(self) -> None:
        to = min(self.dispatch, self.steps)
        self._read_ahead(("training", self.epoch + 1, 0, to))

    def rows(self, rows: np.ndarray) -> Data:
        """What these rows read."""
        return Data(*galaxies_of(self.systems, self.catalogue, rows, self.room))

    def _training(self, epoch: int, first: int, last: int) -> Data:
        known = self.order  # once: the reading thread may set it, too
        if known is None or known[0] != epoch:
            known = epoch, np.asarray(self.order_of(self.members, epoch))
            self.order = known
        batch = self.batch_size
        return self.rows(known[1][:, first * batch : last * batch])

    def _validation(self, first: int, last: int) -> Data:
        held_out = np.asarray(self.members.fold.validation)
        rows = held_out[:, first * BLOCK : last * BLOCK]
        # the last block repeats the last row
        return self.rows(np.append(rows, held_out[:, -1]))

    def _due(self, what: tuple) -> Data:
        if self.ahead is not None and self.ahead[0] == what:
            return self.ahead[1].result()
        return self._look_up(what)

    def _read_ahead(self, what: tuple) -> None:
        self.ahead = what, self.thread.submit(self._look_up, what)

    def _look_up(self, what: tuple) -> Data:
        kind, *which = what
        return (self._training if kind == "training" else self._validation)(*which)


def galaxies_of(
    systems: System, catalogue: Catalogue, rows: np.ndarray, room: int = 0
) -> tuple[System, Catalogue]:
    """A catalogue in memory of the galaxies that some rows of a sample name.

    With it comes the sample, those rows naming galaxies by their new places.  Arrays
    are as long as `room` asks, so that programs need not be compiled for each.
    """
    rows = np.unique(rows)
    lenses, lens_index = _renumbered(systems.lens_index, rows)
    psfs, psf_index = _renumbered(systems.psf_index, rows)
    nothing = Lenses(*[None] * len(Lenses._fields))
    image = _read(catalogue.lenses.image, lenses, room)
    return (
        systems._replace(lens_index=lens_index, psf_index=psf_index),
        Catalogue(
            nothing._replace(image=image),
            catalogue.sources,
            _read(catalogue.psfs, psfs, room),
        ),
    )


def _renumbered(index, rows: np.ndarray) -> tuple[np.ndarray, jax.Array]:
    """Which galaxies rows need, and where among them each row finds its own."""
    index = np.asarray(index)
    needed, place = np.unique(index[rows], return_inverse=True)
    moved = np.zeros(len(index), np.int32)
    moved[rows] = place
    return needed, jnp.asarray(moved)


def _read(stamps, index: np.ndarray, room: int) -> jax.Array:
    read = np.zeros((max(room, len(index), 1), *stamps.shape[1:]), np.float32)
    if len(index):
        read[: len(index)] = stamps[index]
    return jnp.asarray(read)
